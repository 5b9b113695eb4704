#include <limits.h>
#include <math.h>
#include <string.h>
#include <time.h>

#if defined(ZOO_VECTOR_MATH)
/* The C library has these four or eight at a time (libmvec); the attribute lets loops call them so. */
#define ZOO_SIMD __attribute__((simd("notinbranch")))
ZOO_SIMD double exp(double);
ZOO_SIMD double log(double);
ZOO_SIMD double pow(double, double);
ZOO_SIMD double sin(double);
ZOO_SIMD double cos(double);
ZOO_SIMD double log1p(double);
ZOO_SIMD double expm1(double);
ZOO_SIMD double tanh(double);
ZOO_SIMD double erf(double);
ZOO_SIMD double erfc(double);
ZOO_SIMD double exp2(double);
ZOO_SIMD double log2(double);
ZOO_SIMD double log10(double);
ZOO_SIMD double atan(double);
#endif

#define ZOO_PI 3.14159265358979323846

/* log Gamma by Stirling's series after eight steps up, below zero by reflection (Abramowitz and Stegun 6.1.17, 41). */
static inline double zoo_lgamma(double x) {
  const double y = x > 0 ? x : 1 - x;
  const double low = y < 8 ? y : 1;
  const double steps = low * (low + 1) * (low + 2) * (low + 3) * (low + 4) * (low + 5) * (low + 6) * (low + 7);
  const double z = y < 8 ? y + 8 : y;
  const double r = 1 / z, s = r * r;
  const double series =
      r * (1.0 / 12 + s * (-1.0 / 360 + s * (1.0 / 1260 + s * (-1.0 / 1680 + s * (1.0 / 1188 + s * (-691.0 / 360360 +
      s * (1.0 / 156 - s * 3617.0 / 122400)))))));
  const double value = (z - 0.5) * log(z) - z + 0.91893853320467274178 + series - (y < 8 ? log(steps) : 0);
  const double reflected = log(ZOO_PI / fabs(sin(ZOO_PI * x))) - value;
  return x > 0 ? value : reflected;
}

/* Its derivative, in the same way (6.3.18, 6.3.7). */
static inline double zoo_digamma(double x) {
  const double y = x > 0 ? x : 1 - x;
  const double low = y < 8 ? y : 1;
  const double steps = 1 / low + 1 / (low + 1) + 1 / (low + 2) + 1 / (low + 3) + 1 / (low + 4) + 1 / (low + 5) +
                       1 / (low + 6) + 1 / (low + 7);
  const double z = y < 8 ? y + 8 : y;
  const double s = 1 / (z * z);
  const double series =
      s * (1.0 / 12 - s * (1.0 / 120 - s * (1.0 / 252 - s * (1.0 / 240 - s * (1.0 / 132 - s * (691.0 / 32760 -
      s * (1.0 / 12 - s * 3617.0 / 8160)))))));
  const double value = log(z) - 0.5 / z - series - (y < 8 ? steps : 0);
  const double reflected = value - ZOO_PI * cos(ZOO_PI * x) / sin(ZOO_PI * x);
  return x > 0 ? value : reflected;
}

/* Routines on one member of a batch: pointers, strides of the inner dimensions, sizes. Written out for the types of
   result (R) and operand (T) that a density has. */
#define ZOO_CUMULATIVE(NAME, R, T, START, OPERATOR)                                                                 \
  static void NAME(R *out, long o, const T *a, long p, long n) {                                                   \
    R value = START;                                                                                               \
    for (long i = 0; i < n; i++) out[i * o] = value OPERATOR a[i * p];                                             \
  }
#define zoo_define_cumsum(NAME, R, T) ZOO_CUMULATIVE(NAME, R, T, 0, +=)
#define zoo_define_cumprod(NAME, R, T) ZOO_CUMULATIVE(NAME, R, T, 1, *=)

#define ZOO_BEST(NAME, R, T, BETTER)                                                                               \
  static void NAME(R *out, long o, const T *a, long p, long n) {                                                   \
    long best = 0;                                                                                                 \
    for (long i = 1; i < n; i++) best = a[i * p] BETTER a[best * p] ? i : best;                                    \
    out[0] = best;                                                                                                 \
  }
#define zoo_define_argmax(NAME, R, T) ZOO_BEST(NAME, R, T, >)
#define zoo_define_argmin(NAME, R, T) ZOO_BEST(NAME, R, T, <)

/* Row by row (Golub and Van Loan 2013, section 4.2); a matrix that has no factor gives NaN. */
#define zoo_define_cholesky(NAME, R, T)                                                                            \
  static void NAME(R *L, long r, long c, const T *A, long p, long q, long n) {                                     \
    for (long i = 0; i < n; i++) {                                                                                 \
      for (long j = 0; j <= i; j++) {                                                                              \
        R sum = A[i * p + j * q];                                                                                  \
        for (long k = 0; k < j; k++) sum -= L[i * r + k * c] * L[j * r + k * c];                                   \
        L[i * r + j * c] = i == j ? (R)sqrt(sum) : sum / L[j * r + j * c];                                         \
      }                                                                                                            \
      for (long j = i + 1; j < n; j++) L[i * r + j * c] = 0;                                                       \
    }                                                                                                              \
  }

/* A X = B by substitution; X may lie where B does. */
#define zoo_define_solve_triangular(NAME, R, T)                                                                    \
  static void NAME(R *X, long r, long c, const T *A, long p, long q, const T *B, long u, long v, long n, long m,   \
                   long upper, long unit) {                                                                        \
    for (long s = 0; s < n; s++) {                                                                                 \
      const long i = upper ? n - 1 - s : s;                                                                        \
      const long from = upper ? i + 1 : 0, to = upper ? n : i;                                                     \
      const R d = unit ? 1 : 1 / A[i * p + i * q];                                                                 \
      for (long j = 0; j < m; j++) X[i * r + j * c] = B[i * u + j * v];                                            \
      for (long k = from; k < to; k++) {                                                                           \
        const R a = A[i * p + k * q];                                                                              \
        for (long j = 0; j < m; j++) X[i * r + j * c] -= a * X[k * r + j * c];                                     \
      }                                                                                                            \
      for (long j = 0; j < m; j++) X[i * r + j * c] *= d;                                                          \
    }                                                                                                              \
  }

/* What a caller brings: one per thread. */
typedef struct {
  const void **constants;
  char *work;
  double *seconds; /* when each draw was made, by the monotonic clock */
  long drawn, room;
} zoo_memory;

/* A sampler's draw, taken as it is; the time of every one is kept. */
int zoo_draw(unsigned long n, unsigned long m, const double *x, double *out, zoo_memory *memory) {
  memcpy(out, x, n * sizeof(double));
  if (memory->drawn < memory->room) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    memory->seconds[memory->drawn] = now.tv_sec + 1e-9 * now.tv_nsec;
  }
  __atomic_fetch_add(&memory->drawn, 1, __ATOMIC_RELEASE);
  return 0;
}
