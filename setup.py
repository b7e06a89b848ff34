"""The optional native parts; everything else is in pyproject.toml. An install without a compiler goes on without."""

from setuptools import Extension, setup

FOLDER = "service/runtimes/native"
SOURCES = ("api", "kernel_avx512", "kernel_amx", "kernel_avx2", "kernel_portable")
INCLUDED = ("kernel", "layers", "scratch", "attend", "attention", "attention_amx", "avx512", "generic")
TRAINING = "model/nets/native"
SOURCES_BY_SET = ("kernel_avx512", "kernel_avx2", "kernel_portable")
TRAINING_PARTS = ("vector", "product", "gated", "attention", "behaviors", "dice", "table")
FLAGS = [
    "-O3",
    "-g0",
    "-std=c++17",
    "-fno-exceptions",
    "-fno-rtti",
    "-fvisibility=hidden",
    "-Wno-psabi",  # vectors never cross a call that is not inlined
    "-Wno-maybe-uninitialized",  # GCC 12's own AVX-512 header
]

setup(
    ext_modules=[
        Extension(
            "service.runtimes.native._kernel",
            sources=[f"{FOLDER}/{name}.cpp" for name in SOURCES],
            depends=[f"{FOLDER}/{name}" for name in ("kernel.h", *(f"{name}.inc" for name in INCLUDED))],
            extra_compile_args=FLAGS,
            language="c++",
            optional=True,
        ),
        Extension(
            "model.nets.native._train",
            sources=[f"{TRAINING}/{name}.cpp" for name in ("api", *SOURCES_BY_SET)],
            depends=[
                f"{TRAINING}/{name}" for name in ("kernel.h", "parallel.h", *(f"{n}.inc" for n in TRAINING_PARTS))
            ],
            extra_compile_args=FLAGS,
            language="c++",
            optional=True,
        ),
        Extension(
            "service.api.native._rows",
            sources=["service/api/native/rows.cpp"],
            extra_compile_args=FLAGS,
            language="c++",
            optional=True,
        ),
    ]
)
