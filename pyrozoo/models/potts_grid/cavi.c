/* Mean field for the pixels of one colour given those of the other (cavi.py, checkerboard.py), in strips of rows. Packed
   pixels are [C, H, half, K]; in row r of colour s the pixel j stands in column 2 j + (r + s) % 2. */
#include <stdlib.h>

#define EACH(x, n) _Pragma("omp simd") for (long x = 0; x < (n); x++)

typedef struct {
  const REAL *other, *unary, *coupling; /* of the other colour [C, H, half, K]; of this one [H, half, K]; J [K, K] */
  REAL *found, *bound;                  /* [C, H, half, K]; its part of the bound, [C, strips] */
  long H, W, half, K, colour, strip;
} NAME(colour_given);

/* Add the numbers of packed pixels of the other colour, one row of them moved by some places, where there are any. */
static void NAME(add_row)(const NAME(colour_given) *g, REAL *sum, const REAL *other, long row, long by) {
  const long K = g->K, last = 2 * (g->half - 1) + (row + 1 - g->colour) % 2;
  const long there = g->half - (last >= g->W), from = MAX(0, -by), to = MIN(g->half, there - by);
  if (row < 0 || row >= g->H) return;
  const REAL *one = other + row * g->half * K + by * K;
#pragma omp simd
  for (long x = from * K; x < to * K; x++) sum[x] += one[x];
}

static void NAME(colour_strip)(zoo_work *work, long block, long thread) {
  const NAME(colour_given) *g = work->given;
  const long H = g->H, K = g->K, half = g->half, strips = (H + g->strip - 1) / g->strip, chain = block / strips;
  const long begin = block % strips * g->strip, end = MIN(H, begin + g->strip);
  const REAL *other = g->other + chain * H * half * K;
  REAL *sum = malloc((3 * K + 3) * half * sizeof(REAL)), *pulled = sum + K * half, *e = pulled + K * half;
  REAL *most = e + K * half, *total = most + half, *part = total + half;
  double bound = 0;
  (void)thread;
  for (long r = begin; r < end; r++) {
    const REAL *unary = g->unary + r * half * K;
    REAL *found = g->found + (chain * H + r) * half * K;
    const long odd = (r + g->colour) % 2, there = half - (2 * (half - 1) + odd >= g->W);
    memset(sum, 0, K * half * sizeof(REAL));
    NAME(add_row)(g, sum, other, r, 0);
    NAME(add_row)(g, sum, other, r, odd ? 1 : -1);
    NAME(add_row)(g, sum, other, r - 1, 0);
    NAME(add_row)(g, sum, other, r + 1, 0);
    for (long l = 0; l < K; l++) {
      REAL *to = pulled + l * half, *logit = e + l * half;
      EACH(x, half) to[x] = 0;
      for (long k = 0; k < K; k++) {
        const REAL j = g->coupling[k * K + l];
        EACH(x, half) to[x] += sum[x * K + k] * j;
      }
      EACH(x, half) logit[x] = to[x] + unary[x * K + l];
      EACH(x, half) most[x] = l == 0 || logit[x] > most[x] ? logit[x] : most[x];
    }
    EACH(x, half) total[x] = part[x] = 0;
    for (long l = 0; l < K; l++) {
      EACH(x, half) e[l * half + x] = EXP(e[l * half + x] - most[x]);
      EACH(x, half) total[x] += e[l * half + x];
    }
    for (long l = 0; l < K; l++) {
      EACH(x, half) e[l * half + x] /= total[x];
      EACH(x, half) part[x] += e[l * half + x] * pulled[l * half + x];
      EACH(x, half) found[x * K + l] = e[l * half + x];
    }
    /* Of a colour that has just been updated, E log potential of its pixels + entropy is the log of the sum; black's
       leaves out its edges, which white's counts. */
    EACH(x, half) total[x] = LOG(total[x]) + most[x] - (g->colour == 0 ? part[x] : 0);
#pragma omp simd reduction(+ : bound)
    for (long x = 0; x < there; x++) bound += total[x];
  }
  g->bound[block] = bound;
  free(sum);
}

void NAME(colour)(const REAL *other, const REAL *unary, const REAL *coupling, REAL *found, REAL *bound, long C, long H,
                  long W, long K, long colour, long strip, long threads) {
  NAME(colour_given) given = {other, unary, coupling, found, bound, H, W, (W + 1) / 2, K, colour, strip};
  zoo_run(NAME(colour_strip), &given, C * ((H + strip - 1) / strip), threads);
}
