"""The candidate half of DIN and DIEN in one fused C++ kernel, built where a compiler is; the user half stays in ONNX.

candidate.npz --weights--> named, checked arrays --packing--> what kernel.h describes --library--> the kernel
"""
