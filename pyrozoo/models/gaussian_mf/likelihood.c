/* What listed pairs say of one side given the other (likelihood.py): sums over the pairs of each row of x x^T and of
   x (r - b), one chain after another, for the numbers of one may stay in the cache. Numbers of the other side stand as
   [C, m, W]: x, then b where there are offsets, then zeros to whole vectors. Sums are of up to PAIRS pairs in registers,
   then in double precision. */
#include <stdlib.h>

#define BYTES 32
#define WIDE (BYTES / (long)sizeof(REAL))
#define ROWS 16
#define PAIRS 512
#define AHEAD 32 /* pairs, in which numbers come from memory */
#define MOST 8

typedef REAL NAME(vector) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

typedef struct {
  const long *starts, *other;    /* where the pairs of each row begin [n + 1]; whom each is with [pair] */
  const REAL *ratings, *numbers; /* [pair], [C, m, W] */
  REAL *gram, *dot;              /* lower triangles [F, C, n]; [L, C, n] */
  long C, n, m, L, W, offsets;
} NAME(pairs_given);

/* Add pairs to total [L + 1, W]: of x x^T, of which rows need their first vectors only, and of x (r - b). */
static inline __attribute__((always_inline)) void NAME(add)(const REAL *numbers, const long *other, const REAL *ratings,
                                                            long from, long to, long end, long offsets, double *total,
                                                            const long L, const long V) {
  NAME(vector) sums[MOST][MOST / WIDE + 1], dot[MOST / WIDE + 1];
#pragma GCC unroll 8
  for (long v = 0; v < V; v++) {
    dot[v] = (NAME(vector)){0};
#pragma GCC unroll 8
    for (long s = v * WIDE; s < L; s++) sums[s][v] = (NAME(vector)){0};
  }
  for (long e = from; e < to; e++) {
    const REAL *x = numbers + other[e] * V * WIDE;
    const REAL away = offsets ? ratings[e] - x[L] : ratings[e];
    __builtin_prefetch(numbers + other[MIN(e + AHEAD, end - 1)] * V * WIDE);
#pragma GCC unroll 8
    for (long v = 0; v < V; v++) {
      const NAME(vector) each = *(const NAME(vector) *)(x + v * WIDE);
      dot[v] += each * away;
#pragma GCC unroll 8
      for (long s = v * WIDE; s < L; s++) sums[s][v] += each * x[s];
    }
  }
  for (long v = 0; v < V; v++)
    for (long k = 0; k < WIDE; k++) {
      total[(L * V + v) * WIDE + k] += dot[v][k];
      for (long s = v * WIDE; s < L; s++) total[(s * V + v) * WIDE + k] += sums[s][v][k];
    }
}

/* The same for any L, four pairs at a time, with the sums in memory [L + 1, W]. */
static void NAME(add_any)(const REAL *numbers, const long *other, const REAL *ratings, long from, long to, long offsets,
                          double *total, REAL *memory, long L, long V) {
  const long W = V * WIDE;
  NAME(vector) *sums = (NAME(vector) *)memory;
  memset(memory, 0, (L + 1) * W * sizeof(REAL));
  for (long e = from; e < to; e += 4) {
    const REAL *x[4];
    REAL away[4], own[4];
    for (long k = 0; k < 4; k++) {
      const long at = MIN(e + k, to - 1);
      own[k] = e + k < to;
      x[k] = numbers + other[at] * W;
      away[k] = own[k] * (offsets ? ratings[at] - x[k][L] : ratings[at]);
    }
    for (long s = 0; s <= L; s++) {
      const long end = s < L ? s / WIDE + 1 : V;
      REAL factor[4];
      for (long k = 0; k < 4; k++) factor[k] = s < L ? own[k] * x[k][s] : away[k];
      for (long v = 0; v < end; v++) {
        NAME(vector) sum = sums[s * V + v];
        for (long k = 0; k < 4; k++) sum += *(const NAME(vector) *)(x[k] + v * WIDE) * factor[k];
        sums[s * V + v] = sum;
      }
    }
  }
  for (long k = 0; k < (L + 1) * W; k++) total[k] += memory[k];
}

static void NAME(rows)(zoo_work *work, long block, long thread) {
  const NAME(pairs_given) *g = work->given;
  const long L = g->L, W = g->W, V = W / WIDE, C = g->C, n = g->n, size = (L + 1) * W;
  double *total = malloc(size * (sizeof(double) + sizeof(REAL)));
  REAL *memory = (REAL *)(total + size);
  (void)thread;
  const long blocks = (n + ROWS - 1) / ROWS, c = block / blocks, begin = block % blocks * ROWS;
  const REAL *numbers = g->numbers + c * g->m * W, *r = g->ratings;
  for (long i = begin; i < MIN(n, begin + ROWS); i++) {
    const long end = g->starts[i + 1], *other = g->other;
    memset(total, 0, size * sizeof(double));
    for (long from = g->starts[i]; from < end; from += PAIRS) {
      const long to = MIN(end, from + PAIRS);
      switch (L) {
#define CASE(K) \
  case K: NAME(add)(numbers, other, r, from, to, end, g->offsets, total, K, (K + 1 + WIDE - 1) / WIDE); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
        default: NAME(add_any)(numbers, other, r, from, to, g->offsets, total, memory, L, V);
      }
    }
    for (long s = 0, f = 0; s < L; s++) {
      g->dot[(s * C + c) * n + i] = total[L * W + s];
      for (long t = 0; t <= s; t++, f++) g->gram[(f * C + c) * n + i] = total[s * W + t];
    }
  }
  free(total);
}

void NAME(regress)(const long *starts, const long *other, const REAL *ratings, const REAL *numbers, REAL *gram, REAL *dot,
                   long C, long n, long m, long L, long W, long offsets, long threads) {
  NAME(pairs_given) given = {starts, other, ratings, numbers, gram, dot, C, n, m, L, W, offsets};
  zoo_run(NAME(rows), &given, C * ((n + ROWS - 1) / ROWS), threads);
}
