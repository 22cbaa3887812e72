// Packing that divides charts so large that no packing of them fills the texture: two of half the surface each, as a
// sheet has, leave half of a square empty; one of them in two halves fills eight ninths of it.
#pragma once

#include "unwrap_pack.hpp"

namespace tk::uv {

// `pack_charts`; where few charts leave much of the texture empty, large ones are first halved across their longer
// side, along edges of faces, if that fills more. Charts stay in the order of their first faces.
void pack_well(const Surface& surface, std::vector<Chart>& charts, const PackOptions& options);

}  // namespace tk::uv
