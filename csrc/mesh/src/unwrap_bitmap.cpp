#include "unwrap_bitmap.hpp"

#include <algorithm>
#include <cmath>

namespace tk::uv {
namespace {

// Bit rows of one footprint while it is drawn.
struct Canvas {
    int32_t width, height;
    int64_t words;
    std::vector<uint64_t> bits;
    Canvas(int32_t w, int32_t h) : width(w), height(h), words((w + 63) / 64), bits(words * h, 0) {}
    void set(int32_t y, int32_t begin, int32_t end) {
        uint64_t* row = &bits[y * words];
        for (int32_t x = begin; x < end;) {
            const int32_t stop = std::min(end, (x / 64 + 1) * 64);
            const int count = stop - x;
            row[x / 64] |= (count == 64 ? ~uint64_t{0} : ((uint64_t{1} << count) - 1)) << (x % 64);
            x = stop;
        }
    }
    bool get(int32_t y, int32_t x) const { return bits[y * words + x / 64] >> (x % 64) & 1; }
};

void order_runs(Footprint& f) {
    f.cells = 0;
    for (const Run& r : f.runs) f.cells += r.length;
    std::stable_sort(f.runs.begin(), f.runs.end(), [](const Run& a, const Run& b) { return a.length > b.length; });
}

Footprint from_canvas(const Canvas& canvas) {
    Footprint f;
    f.width = canvas.width;
    f.height = canvas.height;
    for (int32_t y = 0; y < canvas.height; ++y)
        for (int32_t x = 0; x < canvas.width;) {
            if (!canvas.get(y, x)) {
                ++x;
                continue;
            }
            const int32_t begin = x;
            while (x < canvas.width && canvas.get(y, x)) ++x;
            f.runs.push_back({y, begin, x - begin});
        }
    order_runs(f);
    return f;
}

// Sets the cells that the triangle, widened by a square of half side `r` about each of its points, has the
// centre of: with r = 1/2 + margin these are the cells within the margin.
void draw(Canvas& canvas, const Vec2d (&p)[3], double r) {
    const double turn = cross(p[1] - p[0], p[2] - p[0]) < 0 ? -1 : 1;
    const double low_x = std::min({p[0].x, p[1].x, p[2].x}) - r, high_x = std::max({p[0].x, p[1].x, p[2].x}) + r;
    const double low_y = std::min({p[0].y, p[1].y, p[2].y}) - r, high_y = std::max({p[0].y, p[1].y, p[2].y}) + r;
    const int32_t y0 = std::max(0, static_cast<int32_t>(std::ceil(low_y - 0.5))), y1 = std::min(canvas.height - 1, static_cast<int32_t>(std::floor(high_y - 0.5)));
    for (int32_t y = y0; y <= y1; ++y) {
        double left = low_x - 0.5, right = high_x - 0.5;  // in cells: the centre of cell x is at x + 1/2
        for (int k = 0; k < 3; ++k) {
            const Vec2d from = p[k], along = p[(k + 1) % 3] - from;
            // inside where turn * cross(along, q - from) >= -r (|along.x| + |along.y|)
            const double a = -turn * along.y, rest = turn * (along.x * (y + 0.5 - from.y) + along.y * from.x) + r * (std::abs(along.x) + std::abs(along.y));
            if (a > 0) left = std::max(left, -rest / a - 0.5);
            else if (a < 0) right = std::min(right, -rest / a - 0.5);
            else if (rest < 0) right = -1;
        }
        // Half a millionth of a cell on the safe side of rounding.
        const double begin = std::max(0.0, std::ceil(left - 5e-7)), end = std::min<double>(canvas.width - 1, std::floor(right + 5e-7));
        if (begin <= end) canvas.set(y, static_cast<int32_t>(begin), static_cast<int32_t>(end) + 1);
    }
}

}  // namespace

Footprint footprint(const Chart& chart, double scale, double margin, int32_t limit) {
    double width = 0, height = 0;
    for (const Vec2d& p : chart.uv) {
        width = std::max(width, p.x);
        height = std::max(height, p.y);
    }
    const double w = std::ceil(width * scale + 2 * margin), h = std::ceil(height * scale + 2 * margin);
    Footprint none;
    if (!(w <= limit) || !(h <= limit)) return none;
    Canvas canvas(std::max(1, static_cast<int32_t>(w)), std::max(1, static_cast<int32_t>(h)));
    for (int64_t f = 0; f < chart.size(); ++f) {
        Vec2d p[3];
        for (int k = 0; k < 3; ++k) p[k] = chart.uv[chart.corner[3 * f + k]] * scale + Vec2d{margin, margin};
        draw(canvas, p, 0.5 + margin);
    }
    return from_canvas(canvas);
}

Footprint turned(const Footprint& f, int quarters) {
    if (quarters == 0) return f;
    const int32_t w = f.width, h = f.height;
    Canvas canvas(quarters % 2 ? h : w, quarters % 2 ? w : h);
    for (const Run& r : f.runs) {
        if (quarters == 2) {
            canvas.set(h - 1 - r.y, w - r.x - r.length, w - r.x);
        } else {
            for (int32_t x = r.x; x < r.x + r.length; ++x) {
                if (quarters == 1) canvas.set(x, h - 1 - r.y, h - r.y);
                else canvas.set(w - 1 - x, r.y, r.y + 1);
            }
        }
    }
    return from_canvas(canvas);
}

Occupancy::Occupancy(int32_t size, int32_t rows)
    : size_(size), rows_(rows), words_((size + 63) / 64), free_(int64_t{size} * rows), taken_(words_ * rows, 0), widest_gap_(rows, size) {}

int32_t Occupancy::first_taken(int32_t y, int32_t begin, int32_t end) const {
    const uint64_t* row = &taken_[y * words_];
    int64_t w = begin / 64;
    uint64_t bits = row[w] & (~uint64_t{0} << (begin % 64));
    for (;;) {
        if (bits) return std::min<int32_t>(end, static_cast<int32_t>(w * 64) + __builtin_ctzll(bits));
        if (++w * 64 >= end) return end;
        bits = row[w];
    }
}

int32_t Occupancy::first_free(int32_t y, int32_t begin) const {
    if (begin >= size_) return size_;
    const uint64_t* row = &taken_[y * words_];
    int64_t w = begin / 64;
    uint64_t bits = ~row[w] & (~uint64_t{0} << (begin % 64));
    for (;;) {
        if (bits) return std::min<int32_t>(size_, static_cast<int32_t>(w * 64) + __builtin_ctzll(bits));
        if (++w * 64 >= size_) return size_;
        bits = ~row[w];
    }
}

void Occupancy::measure_gap(int32_t y) {
    int32_t widest = 0;
    for (int32_t x = first_free(y, 0); x < size_;) {
        const int32_t end = first_taken(y, x, size_);
        widest = std::max(widest, end - x);
        x = first_free(y, end);
    }
    widest_gap_[y] = widest;
}

bool Occupancy::find(const Footprint& f, int32_t top, int32_t& found_x, int32_t& found_y) const {
    if (f.runs.empty() || f.width > size_) return false;
    const int32_t last_y = std::min(rows_, top) - f.height, last_x = size_ - f.width;
    const size_t count = f.runs.size();
    size_t suspect = 0;  // the run that failed last is asked first
    int32_t from_x = found_x;
    for (int32_t y = found_y; y <= last_y; ++y, from_x = 0) {
        if (widest_gap_[y + f.runs[0].y] < f.runs[0].length) continue;
        for (int32_t x = from_x; x <= last_x;) {
            int32_t next = x;
            auto blocked = [&](size_t i) {
                const Run& r = f.runs[i];
                const int32_t begin = x + r.x, end = begin + r.length;
                const int32_t hit = first_taken(y + r.y, begin, end);
                if (hit >= end) return false;
                next = first_free(y + r.y, hit) - r.x;  // no place before this has the run free
                return true;
            };
            if (!blocked(suspect)) {
                size_t i = 0;
                while (i < count && !blocked(i)) ++i;
                if (i == count) {
                    found_x = x;
                    found_y = y;
                    return true;
                }
                suspect = i;
            }
            x = next;
        }
    }
    return false;
}

void Occupancy::take(const Footprint& f, int32_t x, int32_t y) {
    for (const Run& r : f.runs) {
        uint64_t* row = &taken_[(y + r.y) * words_];
        for (int32_t at = x + r.x, end = at + r.length; at < end;) {
            const int32_t stop = std::min(end, (at / 64 + 1) * 64);
            const int count = stop - at;
            row[at / 64] |= (count == 64 ? ~uint64_t{0} : ((uint64_t{1} << count) - 1)) << (at % 64);
            at = stop;
        }
    }
    free_ -= f.cells;
    for (int32_t row = y; row < y + f.height; ++row) measure_gap(row);
}

}  // namespace tk::uv
