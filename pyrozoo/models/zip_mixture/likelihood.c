/* The E-step in one pass over the rows: logits, their soft-max, and its products with the design, ROWS rows at a time,
   all of which stay in the nearest caches. Components of all chains stand one below the other, padded with zeros to
   whole TALLs, and columns of the design to whole vectors. Blocks of rows add to sums in memory of their thread, and
   these to the result in turn. */
#define LANES (32 / (long)sizeof(REAL))
#define TALL 6 /* with two vectors each, as many sums as registers hold */
#define WIDE (2 * LANES)
#define ROWS 32
typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
#if defined(__AVX__)
/* Two vectors in registers: a compiler that reads them from memory at each use halves the speed. */
#define HELD(p, q) __asm__("" : "+x"(p), "+x"(q))
#else
#define HELD(p, q)
#endif
#define VECTOR NAME(vector)

typedef struct {
  const REAL *design, *weights, *added, *constant, *uniform; /* [N, F], [tall, width], [C, K], [N], [N, C] or none */
  REAL *sums, *counts, *evidence, *scratch;                  /* [C K, F], [C, K], [C], [thread, ...] */
  long N, F, C, K, tall, width, rows;
} NAME(expected_given);

/* out [a, i] of TALL rows and ROWS columns: sum over f of w [a, f] x [f, i]. */
static void NAME(logits)(const REAL *w, const REAL *x, REAL *out, long width) {
  for (long i = 0; i < ROWS; i += WIDE) {
    VECTOR left[TALL] = {{0}}, right[TALL] = {{0}};
    for (long f = 0; f < width; f++) {
      VECTOR p = *(const VECTOR *)(x + f * ROWS + i), q = *(const VECTOR *)(x + f * ROWS + i + LANES);
      HELD(p, q);
      for (long a = 0; a < TALL; a++) left[a] += w[a * width + f] * p, right[a] += w[a * width + f] * q;
    }
    for (long a = 0; a < TALL; a++) {
      *(VECTOR *)(out + a * ROWS + i) = left[a];
      *(VECTOR *)(out + a * ROWS + i + LANES) = right[a];
    }
  }
}

/* sums [a, f] of TALL rows, plus sum over i of r [a, i] x [i, f]. */
static void NAME(products)(const REAL *r, const REAL *x, REAL *sums, long width) {
  for (long f = 0; f < width; f += WIDE) {
    VECTOR left[TALL], right[TALL];
    for (long a = 0; a < TALL; a++) {
      left[a] = *(VECTOR *)(sums + a * width + f);
      right[a] = *(VECTOR *)(sums + a * width + f + LANES);
    }
    for (long i = 0; i < ROWS; i++) {
      VECTOR p = *(const VECTOR *)(x + i * width + f), q = *(const VECTOR *)(x + i * width + f + LANES);
      HELD(p, q);
      for (long a = 0; a < TALL; a++) left[a] += r[a * ROWS + i] * p, right[a] += r[a * ROWS + i] * q;
    }
    for (long a = 0; a < TALL; a++) {
      *(VECTOR *)(sums + a * width + f) = left[a];
      *(VECTOR *)(sums + a * width + f + LANES) = right[a];
    }
  }
}

/* Turn one chain's logits [K, i] into responsibilities, or into a choice by uniform numbers; add their sums to counts.
   Returns the sum of the first n rows' log evidence; the others get 0 everywhere. */
static double NAME(share)(REAL *r, const REAL *added, const REAL *constant, const REAL *uniform, REAL *counts, long K,
                          long C, long n) {
  REAL top[ROWS], total[ROWS], mask[ROWS], evidence = 0;
  for (long i = 0; i < ROWS; i++) top[i] = r[i] + added[0], total[i] = 0, mask[i] = i < n;
  for (long k = 1; k < K; k++) {
    const REAL plus = added[k];
#pragma omp simd
    for (long i = 0; i < ROWS; i++) top[i] = MAX(top[i], r[k * ROWS + i] + plus);
  }
  for (long k = 0; k < K; k++) {
    const REAL plus = added[k];
#pragma omp simd
    for (long i = 0; i < ROWS; i++) {
      const REAL e = EXP(r[k * ROWS + i] + plus - top[i]);
      r[k * ROWS + i] = e;
      total[i] += e;
    }
  }
#pragma omp simd reduction(+ : evidence)
  for (long i = 0; i < ROWS; i++) evidence += mask[i] * (top[i] + LOG(total[i]));
  double sum = evidence;
  for (long i = 0; i < n; i++) sum += constant[i];
  if (uniform) { /* the first k whose cumulative sum is above u times the total */
    REAL sought[ROWS] = {0}, before[ROWS], above[ROWS] = {0};
    for (long i = 0; i < n; i++) sought[i] = uniform[i * C] * total[i];
    for (long i = 0; i < ROWS; i++) before[i] = -1, total[i] = 1;
    for (long k = 0; k < K; k++) {
      const REAL more = k < K - 1 ? 0 : INFINITY;
#pragma omp simd
      for (long i = 0; i < ROWS; i++) {
        above[i] += r[k * ROWS + i] + more;
        r[k * ROWS + i] = (before[i] <= sought[i]) & (above[i] > sought[i]) ? 1 : 0;
        before[i] = above[i];
      }
    }
  }
  for (long i = 0; i < ROWS; i++) mask[i] /= total[i];
  for (long k = 0; k < K; k++) {
    REAL count = 0;
#pragma omp simd reduction(+ : count)
    for (long i = 0; i < ROWS; i++) {
      r[k * ROWS + i] *= mask[i];
      count += r[k * ROWS + i];
    }
    counts[k] += count;
  }
  return sum;
}

static void NAME(expected_block)(zoo_work *work, long block, long thread) {
  const NAME(expected_given) *g = work->given;
  const long F = g->F, C = g->C, K = g->K, tall = g->tall, width = g->width;
  REAL *sums = g->scratch + thread * (tall * (width + ROWS + 1) + 2 * ROWS * width + C);
  REAL *r = sums + tall * width, *x = r + tall * ROWS, *across = x + ROWS * width, *counts = across + ROWS * width;
  REAL *evidence = counts + tall;
  memset(sums, 0, (tall * (width + ROWS) + 2 * ROWS * width + tall + C) * sizeof(REAL));
  const long end = MIN(g->N, (block + 1) * g->rows);
  for (long start = block * g->rows; start < end; start += ROWS) {
    const long n = MIN(ROWS, end - start);
    for (long i = 0; i < ROWS; i++)
      for (long f = 0; f < F; f++)
        across[f * ROWS + i] = x[i * width + f] = i < n ? g->design[(start + i) * F + f] : 0;
    for (long a = 0; a < tall; a += TALL) NAME(logits)(g->weights + a * width, across, r + a * ROWS, width);
    for (long c = 0; c < C; c++)
      evidence[c] += NAME(share)(r + c * K * ROWS, g->added + c * K, g->constant + start,
                                 g->uniform ? g->uniform + start * C + c : 0, counts + c * K, K, C, n);
    for (long a = 0; a < tall; a += TALL) NAME(products)(r + a * ROWS, x, sums + a * width, width);
  }
  zoo_turn(work, block);
  for (long a = 0; a < C * K; a++) {
    g->counts[a] += counts[a];
    for (long f = 0; f < F; f++) g->sums[a * F + f] += sums[a * width + f];
  }
  for (long c = 0; c < C; c++) g->evidence[c] += evidence[c];
  zoo_done(work);
}

/* Sums of the design over the rows of each component [C K, F], rows of each [C, K], and sum of log p(x_i) [C], from the
   design [N, F], what multiplies it, padded [tall, width], and what is added [C, K]; with uniform numbers [N, C] of
   components chosen by them. Blocks have so many rows. Scratch: [threads, tall (width + ROWS + 1) + 2 ROWS width + C]. */
void NAME(expected)(const REAL *design, const REAL *weights, const REAL *added, const REAL *constant,
                    const REAL *uniform, REAL *sums, REAL *counts, REAL *evidence, REAL *scratch, long N, long F, long C,
                    long K, long tall, long width, long rows, long threads) {
  NAME(expected_given) given = {design, weights, added, constant, uniform, sums, counts, evidence, scratch,
                                N, F, C, K, tall, width, rows};
  zoo_run(NAME(expected_block), &given, (N + rows - 1) / rows, threads);
}
