// Packing on a grid of cells where a chart is, in each row, the span between its outermost cells. Charts are placed
// one after the other at the lowest place where their spans are free; the places of a row are tried 32 at a time, as
// bits of a word. Many scales and orders are packed at once and the largest scale that fits is taken.
// After Levy, Petitjean, Ray and Maillot, "Least Squares Conformal Maps for Automatic Texture Atlas Generation"
// (2002), section 4, with a bitmap in place of their horizon.
#pragma once

#include "unwrap_flat.hpp"
#include "unwrap_tree.hpp"

namespace tk::uv::flat {

// The least box of each chart over `angles` directions of a quarter turn: area, direction and lowest corner.
struct BoxAtAngle {  // item: chart * angles + angle
    const double* uv;  // double[faces][3][2], faces in the order of charts
    const int64_t* first;
    int angles;
    double* boxes;  // double[charts][angles][4]: lowest x, y, width, height
    TK_BOTH void operator()(int64_t i) const {
        const int64_t c = i / angles;
        const double turn = 1.57079632679489661923 * static_cast<double>(i % angles) / angles, co = cos(turn), si = sin(turn);
        TreeBox box = empty_box();
        for (int64_t k = 3 * first[c]; k < 3 * first[c + 1]; ++k) {
            const double x = co * uv[2 * k] + si * uv[2 * k + 1], y = co * uv[2 * k + 1] - si * uv[2 * k];
            box = united(box, {x, y, x, y});
        }
        boxes[4 * i] = box.low_x;
        boxes[4 * i + 1] = box.low_y;
        boxes[4 * i + 2] = box.high_x - box.low_x;
        boxes[4 * i + 3] = box.high_y - box.low_y;
    }
};

// ---- footprints ---------------------------------------------------------------------------------------------------

// Cells [begin, end) of row y within `margin` along either axis of a triangle: those whose centre it holds when
// widened by a square of half side r = 1/2 + margin. False when there are none.
TK_BOTH inline bool row_span(const Vec2d* p, double r, int y, int width, int& begin, int& end) {
    const double turn = cross(p[1] - p[0], p[2] - p[0]) < 0 ? -1 : 1;
    double left = fmin(p[0].x, fmin(p[1].x, p[2].x)) - r - 0.5, right = fmax(p[0].x, fmax(p[1].x, p[2].x)) + r - 0.5;
    for (int k = 0; k < 3; ++k) {
        const Vec2d from = p[k], along = p[(k + 1) % 3] - from;
        // inside where turn * cross(along, q - from) >= -r (|along.x| + |along.y|)
        const double a = -turn * along.y, rest = turn * (along.x * (y + 0.5 - from.y) + along.y * from.x) + r * (fabs(along.x) + fabs(along.y));
        if (a > 0) left = fmax(left, -rest / a - 0.5);
        else if (a < 0) right = fmin(right, -rest / a - 0.5);
        else if (rest < 0) return false;
    }
    // Half a millionth of a cell on the safe side of rounding.
    const double from = fmax(0.0, ceil(left - 5e-7)), to = fmin(width - 1.0, floor(right + 5e-7));
    begin = static_cast<int>(from);
    end = static_cast<int>(to) + 1;
    return from <= to;
}

TK_BOTH inline void keep_low(int32_t* to, int32_t value) {
#ifdef __CUDA_ARCH__
    atomicMin(to, value);
#else
    int32_t seen = __atomic_load_n(to, __ATOMIC_RELAXED);
    while (value < seen && !__atomic_compare_exchange_n(to, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
#endif
}
TK_BOTH inline void keep_high(int32_t* to, int32_t value) {
#ifdef __CUDA_ARCH__
    atomicMax(to, value);
#else
    int32_t seen = __atomic_load_n(to, __ATOMIC_RELAXED);
    while (value > seen && !__atomic_compare_exchange_n(to, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
#endif
}

struct DrawFace {  // item: scale * faces + face
    const double* uv;      // double[faces][3][2], lowest corner of each chart at the origin
    const int32_t* chart;  // of each face
    int64_t faces, charts;
    const double* scales;
    double margin;
    const int32_t* size;    // [scales][charts][2]
    const int64_t* offset;  // [scales][charts]
    int32_t *low, *high;    // of each span
    TK_BOTH void operator()(int64_t i) const {
        const int64_t s = i / faces, f = i % faces, at = s * charts + chart[f];
        const double r = 0.5 + margin;
        Vec2d p[3], q[3];
        for (int k = 0; k < 3; ++k) {
            p[k] = {uv[6 * f + 2 * k] * scales[s] + margin, uv[6 * f + 2 * k + 1] * scales[s] + margin};
            q[k] = {p[k].y, p[k].x};
        }
        draw(p, r, size[2 * at], size[2 * at + 1], offset[at]);
        draw(q, r, size[2 * at + 1], size[2 * at], offset[at] + size[2 * at + 1]);
    }
    TK_BOTH void draw(const Vec2d* p, double r, int width, int height, int64_t to) const {
        const double bottom = fmin(p[0].y, fmin(p[1].y, p[2].y)) - r, top = fmax(p[0].y, fmax(p[1].y, p[2].y)) + r;
        const int first = static_cast<int>(fmax(0.0, ceil(bottom - 0.5 - 5e-7))), last = static_cast<int>(fmin(height - 1.0, floor(top - 0.5 + 5e-7)));
        for (int y = first; y <= last; ++y) {
            int begin, end;
            if (!row_span(p, r, y, width, begin, end)) continue;
            keep_low(low + to + y, begin);
            keep_high(high + to + y, end);
        }
    }
};

// ---- placing ------------------------------------------------------------------------------------------------------

constexpr int careful = 256;  // the largest charts look for a place from the bottom
constexpr int size_levels = 28;
constexpr int turns = 4;

struct PlaceTask {
    int32_t grid, words;  // cells along a side, a multiple of 32; words of a row
    int64_t charts;
    const int32_t* size;    // [charts][2]
    const int64_t* offset;  // [charts] of the spans: those of `height` rows, then of `width` columns
    const int32_t *low, *high;
    const int32_t* order;   // [charts] of this attempt
    uint32_t* taken;        // [grid][words]
    int32_t* place;         // [charts][3]: x, y, quarter turns
};

// 32 cells of a row from cell p on; beyond the row all are taken.
TK_BOTH inline uint32_t cells_from(const uint32_t* row, int words, int p) {
    const int w = p >> 5, shift = p & 31;
    const uint32_t here = w < words ? row[w] : 0xffffffffu;
    if (shift == 0) return here;
    const uint32_t after = w + 1 < words ? row[w + 1] : 0xffffffffu;
    return here >> shift | after << (32 - shift);
}
TK_BOTH inline int lowest_bit(uint32_t x) {
#ifdef __CUDA_ARCH__
    return __ffs(static_cast<int>(x)) - 1;
#else
    return __builtin_ctz(x);
#endif
}
TK_BOTH inline int highest_bit(uint32_t x) {
#ifdef __CUDA_ARCH__
    return 31 - __clz(static_cast<int>(x));
#else
    return 31 - __builtin_clz(x);
#endif
}

// Bit s: a span of `length` cells that begins at cell p + s of the row meets a taken one.
TK_BOTH inline uint32_t blocked(const uint32_t* row, int words, int p, int length) {
    if (length < 32) {
        uint64_t w = static_cast<uint64_t>(cells_from(row, words, p)) | static_cast<uint64_t>(cells_from(row, words, p + 32)) << 32;
        int done = 1;
        for (; 2 * done <= length; done *= 2) w |= w >> done;
        return static_cast<uint32_t>(w | w >> (length - done));
    }
    for (int q = p + 32; q < p + length; q += 32) {
        uint32_t x = cells_from(row, words, q);
        if (p + length - q < 32) x &= (1u << (p + length - q)) - 1;
        if (x) return 0xffffffffu;
    }
    uint32_t mask = 0;
    const uint32_t head = cells_from(row, words, p), tail = cells_from(row, words, p + length) & 0x7fffffffu;
    if (head) mask |= 0xffffffffu >> (31 - highest_bit(head));
    if (tail) mask |= 0xfffffffeu << lowest_bit(tail);
    return mask;
}

// Span of row y of a chart turned by so many counterclockwise quarters.
TK_BOTH inline void turned_span(const PlaceTask& t, int64_t chart, int quarters, int y, int& begin, int& end) {
    const int w = t.size[2 * chart], h = t.size[2 * chart + 1];
    const int64_t rows = t.offset[chart], columns = rows + h;
    if (quarters == 0) {
        begin = t.low[rows + y];
        end = t.high[rows + y];
    } else if (quarters == 1) {
        begin = h - t.high[columns + y];
        end = h - t.low[columns + y];
    } else if (quarters == 2) {
        begin = w - t.high[rows + h - 1 - y];
        end = w - t.low[rows + h - 1 - y];
    } else {
        begin = t.low[columns + w - 1 - y];
        end = t.high[columns + w - 1 - y];
    }
}

// Charts of like size: a place for one is looked for from where the last one found one.
TK_BOTH inline int size_level(int n) {
    int level = 0;
    for (int x = n; x > 1; x >>= 1) level += 2;
    return level > 1 && n >= 3 << (level / 2 - 1) ? level + 1 : level;
}
TK_BOTH inline int size_class(int w, int h) { return size_level(w) * size_levels + size_level(h); }

// Rows are tried in steps of this, about 0.618 n and coprime to n, until no place is left: rows beside each other mostly
// meet the same cells, rows far apart others.
TK_BOTH inline int stride_through(int n) {
    for (int step = n * 5 / 8 > 1 ? n * 5 / 8 : 1;; ++step) {
        int a = n, b = step;
        while (b != 0) {
            const int rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return step;
    }
}

// A found place as one number: the lower its top, then the fewer turns, then the more to the left, the less.
constexpr uint32_t no_place = 0xffffffffu;
TK_BOTH inline uint32_t place_key(int top, int quarters, int x) { return (static_cast<uint32_t>(top) * turns + quarters) << 13 | static_cast<uint32_t>(x); }

}  // namespace tk::uv::flat
