// Textures with a box-filtered mip pyramid, and trilinear sampling of them.
//
// The pyramid follows Williams, "Pyramidal parametrics" (1983). A level halves each size, rounding down;
// an odd size is halved with the three-tap box weights that keep the mean exact. Levels above the first
// hold 16 bits a channel, so that halving many times neither darkens nor brightens.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "trellis/parallel.hpp"

namespace tk::voxel {

enum class Wrap : int64_t { repeat = 0, clamp = 1, mirror = 2 };

constexpr int max_channels = 4;

class Texture {
public:
    // `texels` [height, width, channels] must outlive the texture. Row 0 is the top of the image, v = 1.
    Texture(const uint8_t* texels, int height, int width, int channels, Wrap wrap_u, Wrap wrap_v, bool linear)
        : base_(texels), channels_(channels), wrap_u_(wrap_u), wrap_v_(wrap_v), linear_(linear) {
        size_.push_back({width, height});
        log2_size_ = 0.5 * std::log2(static_cast<double>(width) * height);
        while (linear_ && (size_.back().width > 1 || size_.back().height > 1)) halve();
    }

    int channels() const { return channels_; }

    // Mip level at which one texel covers `log2_side` = log2 of the side, in UV units, of the square to average.
    double level(double log2_side) const { return log2_side + log2_size_; }

    // Values in [0, 1] at (u, v).
    void sample(double u, double v, double level, float* out) const {
        u = wrapped(u, wrap_u_);
        v = 1.0 - wrapped(v, wrap_v_);
        if (!linear_) return nearest(u, v, out);
        const int last = static_cast<int>(size_.size()) - 1;
        // A comparison that NaN fails, too.
        if (!(level > 0.0) || last == 0) return bilinear(0, u, v, out);
        if (level >= last) return bilinear(last, u, v, out);
        const int lower = static_cast<int>(level);
        const float t = static_cast<float>(level - lower);
        float upper[max_channels];
        bilinear(lower, u, v, out);
        bilinear(lower + 1, u, v, upper);
        for (int c = 0; c < channels_; ++c) out[c] += (upper[c] - out[c]) * t;
    }

private:
    struct Size {
        int width, height;
    };
    // Box filter of one output texel along one axis: weights of inputs 2i, 2i+1, 2i+2.
    struct Taps {
        float weight[3];
    };
    static constexpr float byte_to_16_bit = 257.0f;

    static double wrapped(double t, Wrap wrap) {
        if (wrap == Wrap::clamp) return t < 0.0 ? 0.0 : t > 1.0 ? 1.0 : t;
        if (wrap == Wrap::repeat) return t - std::floor(t);
        t -= 2.0 * std::floor(t / 2.0);
        return t > 1.0 ? 2.0 - t : t;
    }

    static int neighbour(int i, int n, Wrap wrap) {
        if (i < 0) return wrap == Wrap::repeat ? n - 1 : 0;
        if (i >= n) return wrap == Wrap::repeat ? 0 : n - 1;
        return i;
    }

    static std::vector<Taps> taps(int from, int to) {
        std::vector<Taps> result(static_cast<size_t>(to));
        for (int i = 0; i < to; ++i) {
            if (from == 1) result[i] = {{1.0f, 0.0f, 0.0f}};
            else if (from % 2 == 0) result[i] = {{0.5f, 0.5f, 0.0f}};
            else result[i] = {{static_cast<float>(to - i) / from, static_cast<float>(to) / from, static_cast<float>(i + 1) / from}};
        }
        return result;
    }

    void halve() {
        const Size from = size_.back(), to{std::max(1, from.width / 2), std::max(1, from.height / 2)};
        std::vector<uint16_t> level(static_cast<size_t>(to.width) * to.height * channels_);
        const auto across = taps(from.width, to.width), down = taps(from.height, to.height);
        const size_t index = size_.size();
        parallel_for(to.height, 1 + 8192 / to.width, [&](int64_t y) {
            uint16_t* out = level.data() + static_cast<size_t>(y) * to.width * channels_;
            if (index == 1) halve_row(base_, byte_to_16_bit, from, to, across, down[y], y, out);
            else halve_row(levels_[index - 2].data(), 1.0f, from, to, across, down[y], y, out);
        });
        size_.push_back(to);
        levels_.push_back(std::move(level));
    }

    template <class T>
    void halve_row(const T* texels, float scale, Size from, Size to, const std::vector<Taps>& across, const Taps& down,
                   int64_t y, uint16_t* out) const {
        const int64_t stride = static_cast<int64_t>(from.width) * channels_;
        for (int x = 0; x < to.width; ++x) {
            float sum[max_channels] = {};
            for (int j = 0; j < 3; ++j) {
                if (down.weight[j] == 0.0f) continue;
                const T* row = texels + (2 * y + j) * stride + 2 * static_cast<int64_t>(x) * channels_;
                for (int i = 0; i < 3; ++i) {
                    const float weight = down.weight[j] * across[x].weight[i] * scale;
                    if (weight == 0.0f) continue;
                    for (int c = 0; c < channels_; ++c) sum[c] += weight * static_cast<float>(row[i * channels_ + c]);
                }
            }
            for (int c = 0; c < channels_; ++c) out[x * channels_ + c] = static_cast<uint16_t>(std::min(sum[c] + 0.5f, 65535.0f));
        }
    }

    void nearest(double u, double v, float* out) const {
        const auto [width, height] = size_[0];
        const int x = std::min(static_cast<int>(u * width), width - 1), y = std::min(static_cast<int>(v * height), height - 1);
        const uint8_t* texel = base_ + (static_cast<int64_t>(y) * width + x) * channels_;
        for (int c = 0; c < channels_; ++c) out[c] = static_cast<float>(texel[c]) / 255.0f;
    }

    void bilinear(int level, double u, double v, float* out) const {
        if (level == 0) blend(base_, 1.0f / 255.0f, size_[0], u, v, out);
        else blend(levels_[level - 1].data(), 1.0f / 65535.0f, size_[level], u, v, out);
    }

    template <class T>
    void blend(const T* texels, float scale, Size size, double u, double v, float* out) const {
        const double x = u * size.width - 0.5, y = v * size.height - 0.5;
        const int left = static_cast<int>(std::floor(x)), top = static_cast<int>(std::floor(y));
        const float s = static_cast<float>(x - left), t = static_cast<float>(y - top);
        const int64_t x0 = neighbour(left, size.width, wrap_u_), x1 = neighbour(left + 1, size.width, wrap_u_);
        const int64_t y0 = neighbour(top, size.height, wrap_v_), y1 = neighbour(top + 1, size.height, wrap_v_);
        const T* a = texels + (y0 * size.width + x0) * channels_;
        const T* b = texels + (y0 * size.width + x1) * channels_;
        const T* c = texels + (y1 * size.width + x0) * channels_;
        const T* d = texels + (y1 * size.width + x1) * channels_;
        for (int k = 0; k < channels_; ++k) {
            const float upper = a[k] + s * (static_cast<float>(b[k]) - a[k]);
            const float lower = c[k] + s * (static_cast<float>(d[k]) - c[k]);
            out[k] = (upper + t * (lower - upper)) * scale;
        }
    }

    const uint8_t* base_;
    int channels_;
    Wrap wrap_u_, wrap_v_;
    bool linear_;
    double log2_size_;
    std::vector<Size> size_;
    std::vector<std::vector<uint16_t>> levels_;
};

}  // namespace tk::voxel
