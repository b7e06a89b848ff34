// 4 lanes, which every processor of this architecture has.
#include "kernel.h"
#include <stdlib.h>

#include "parallel.h"

namespace portable {

constexpr int W = 4, ROWS = 4;
#include "vector.inc"
#include "product.inc"
#include "gated.inc"
#include "attention.inc"
#include "behaviors.inc"
#include "dice.inc"
#include "table.inc"

const Kernels kernels = {"portable", TABLE};

}  // namespace portable
