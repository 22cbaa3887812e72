#include "bins.hpp"

#include <algorithm>
#include <memory>

#include "trellis/parallel.hpp"

namespace tk::raster {

Bins make_bins(const Scene& scene) {
    Bins bins;
    bins.tiles_x = (scene.view.width + tile_side - 1) >> tile_bits;
    bins.tiles_y = (scene.view.height + tile_side - 1) >> tile_bits;
    const int64_t tiles = int64_t{bins.tiles_x} * bins.tiles_y, faces = scene.num_faces;
    // Few chunks, because each keeps a counter per tile.
    const int64_t grain = std::max<int64_t>(4096, (faces + 63) / 64), chunks = chunk_count(faces, grain);
    std::unique_ptr<int64_t[]> at(new int64_t[chunks * tiles]);
    std::vector<std::vector<LargeFace>> large(chunks);

    auto for_tiles = [&](int64_t f, auto&& one, auto&& many) {
        const Box box = face_box(scene, f);
        if (box.empty()) return;
        const Box t{box.x0 >> tile_bits, box.y0 >> tile_bits, box.x1 >> tile_bits, box.y1 >> tile_bits};
        if (int64_t{t.x1 - t.x0 + 1} * (t.y1 - t.y0 + 1) > max_listed_tiles) return many(t);
        for (int32_t y = t.y0; y <= t.y1; ++y)
            for (int32_t x = t.x0; x <= t.x1; ++x) one(int64_t{y} * bins.tiles_x + x);
    };

    parallel_chunks(faces, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        int64_t* count = at.get() + chunk * tiles;
        std::fill(count, count + tiles, 0);
        for (int64_t f = begin; f < end; ++f)
            for_tiles(f, [&](int64_t tile) { ++count[tile]; },
                      [&](const Box& t) { large[chunk].push_back({static_cast<int32_t>(f), t}); });
    });
    // Tile by tile and chunk by chunk within it, so that faces come out ascending.
    bins.begin.resize(tiles + 1);
    int64_t running = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        bins.begin[tile] = running;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t here = at[chunk * tiles + tile];
            at[chunk * tiles + tile] = running;
            running += here;
        }
    }
    bins.begin[tiles] = running;
    bins.faces.resize(running);
    parallel_chunks(faces, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        int64_t* cursor = at.get() + chunk * tiles;
        for (int64_t f = begin; f < end; ++f)
            for_tiles(f, [&](int64_t tile) { bins.faces[cursor[tile]++] = static_cast<int32_t>(f); }, [](const Box&) {});
    });
    for (const auto& part : large) bins.large.insert(bins.large.end(), part.begin(), part.end());
    return bins;
}

}  // namespace tk::raster
