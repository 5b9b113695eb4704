#include <float.h>
#include <math.h>
#include <string.h>

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

/* Routines on one member of a batch: pointers, strides of the inner dimensions, sizes. */
#define ZOO_ROUTINES(T, S)                                                                                         \
  static void zoo_cumsum##S(T *out, long o, const T *a, long p, long n) {                                          \
    T sum = 0;                                                                                                     \
    for (long i = 0; i < n; i++) out[i * o] = sum += a[i * p];                                                     \
  }                                                                                                                \
  static void zoo_cumprod##S(T *out, long o, const T *a, long p, long n) {                                         \
    T product = 1;                                                                                                 \
    for (long i = 0; i < n; i++) out[i * o] = product *= a[i * p];                                                 \
  }                                                                                                                \
  static void zoo_argmax##S(long long *out, long o, const T *a, long p, long n) {                                  \
    long best = 0;                                                                                                 \
    for (long i = 1; i < n; i++) best = a[i * p] > a[best * p] ? i : best;                                         \
    out[0] = best;                                                                                                 \
  }                                                                                                                \
  static void zoo_argmin##S(long long *out, long o, const T *a, long p, long n) {                                  \
    long best = 0;                                                                                                 \
    for (long i = 1; i < n; i++) best = a[i * p] < a[best * p] ? i : best;                                         \
    out[0] = best;                                                                                                 \
  }                                                                                                                \
  /* Row by row (Golub and Van Loan 2013, section 4.2); a matrix that has no factor gives NaN. */                  \
  static void zoo_cholesky##S(T *L, long r, long c, const T *A, long p, long q, long n) {                          \
    for (long i = 0; i < n; i++) {                                                                                 \
      for (long j = 0; j <= i; j++) {                                                                              \
        T sum = A[i * p + j * q];                                                                                  \
        for (long k = 0; k < j; k++) sum -= L[i * r + k * c] * L[j * r + k * c];                                   \
        L[i * r + j * c] = i == j ? (T)sqrt(sum) : sum / L[j * r + j * c];                                         \
      }                                                                                                            \
      for (long j = i + 1; j < n; j++) L[i * r + j * c] = 0;                                                       \
    }                                                                                                              \
  }                                                                                                                \
  static void zoo_solve_triangular##S(T *X, long r, long c, const T *A, long p, long q, const T *B, long u, long v, \
                                      long n, long m, long upper, long unit) {                                     \
    for (long s = 0; s < n; s++) {                                                                                 \
      const long i = upper ? n - 1 - s : s;                                                                        \
      const long from = upper ? i + 1 : 0, to = upper ? n : i;                                                     \
      const T d = unit ? 1 : 1 / A[i * p + i * q];                                                                 \
      for (long j = 0; j < m; j++) X[i * r + j * c] = B[i * u + j * v];                                            \
      for (long k = from; k < to; k++) {                                                                           \
        const T a = A[i * p + k * q];                                                                              \
        for (long j = 0; j < m; j++) X[i * r + j * c] -= a * X[k * r + j * c];                                     \
      }                                                                                                            \
      for (long j = 0; j < m; j++) X[i * r + j * c] *= d;                                                          \
    }                                                                                                              \
  }
ZOO_ROUTINES(double, )
ZOO_ROUTINES(float, _float)

typedef struct {
  const void **constants;
  char *work;      /* slots times stride bytes */
  int *busy;       /* which slots are in use */
  long slots, stride;
} zoo_memory;
