// The GGX microfacet model on host and device.
//
// B. Walter et al.: Microfacet models for refraction through rough surfaces, EGSR 2007. Here alpha = roughness^2
// (B. Burley: Physically-based shading at Disney, SIGGRAPH 2012 course) and masking-shadowing is Smith's, correlated
// in height (E. Heitz: Understanding the masking-shadowing function, JCGT 3(2), 2014).
#pragma once

#include <cmath>
#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::shade {

// Cosine of the angle between normal and half vector below which a share u of the projected facets lies.
TK_BOTH inline double sample_cosine(double u, double alpha) {
    return sqrt((1 - u) / (1 + (alpha * alpha - 1) * u));
}

TK_BOTH inline double distribution(double cosine, double alpha) {
    const double a2 = alpha * alpha, d = cosine * cosine * (a2 - 1) + 1;
    return a2 / (3.14159265358979323846 * d * d);
}

TK_BOTH inline double smith_lambda(double cosine, double alpha) {
    const double c2 = cosine * cosine;
    return (sqrt(1 + alpha * alpha * (1 - c2) / c2) - 1) * 0.5;
}

TK_BOTH inline double masking_shadowing(double view, double light, double alpha) {
    return 1 / (1 + smith_lambda(view, alpha) + smith_lambda(light, alpha));
}

// Bits of i mirrored at the binary point: the radical inverse in base 2.
TK_BOTH inline double radical_inverse(uint32_t i) {
    i = (i << 16) | (i >> 16);
    i = ((i & 0x55555555u) << 1) | ((i >> 1) & 0x55555555u);
    i = ((i & 0x33333333u) << 2) | ((i >> 2) & 0x33333333u);
    i = ((i & 0x0f0f0f0fu) << 4) | ((i >> 4) & 0x0f0f0f0fu);
    i = ((i & 0x00ff00ffu) << 8) | ((i >> 8) & 0x00ff00ffu);
    return i * (1.0 / 4294967296.0);
}

}  // namespace tk::shade
