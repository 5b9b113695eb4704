/* Counts shared among factors: s = theta . eta of every listed cell, its ratio x / s, and what ratios add to the cell's
   row and column, in one pass over the cells. Rows go in blocks of about as many cells. A block adds to columns in
   memory of its thread, and blocks add theirs to the result in turn. */
#define LANES (32 / (long)sizeof(REAL))
#define CHUNK 64
#define GROUP 4
/* Columns come from beyond the nearest cache; they are asked for a few cells ahead. */
#define AHEAD 6
#define FETCH(from, bytes) for (long b = 0; b < (bytes); b += 64) __builtin_prefetch((const char *)(from) + b)
typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
#define VECTOR NAME(vector)

typedef struct {
  const REAL *theta, *eta, *whole, *counts; /* [N, K], [M, K], [M, width] or none, [cell] */
  const long *starts, *columns;     /* [N + 1], [cell] */
  REAL *of_rows, *of_columns;       /* [N, K]; [M, K], or none */
  REAL *scratch;                    /* [thread, (2 + CHUNK + M) width], or without columns less by M width */
  REAL *evidence, *lowest;          /* [block] */
  long N, M, K, width, blocks;
} NAME(shared_given);

/* Dots of a row with the columns of some cells, lane by lane. */
static inline __attribute__((always_inline)) void NAME(dots)(
    const REAL *theta, const REAL *eta, const long *columns, REAL *lanes, long cells, long vectors) {
  const VECTOR *t = (const VECTOR *)theta;
  for (long e = 0; e < cells; e++) {
    const VECTOR *h = (const VECTOR *)(eta + columns[e] * vectors * LANES);
    if (e + AHEAD < cells) FETCH(eta + columns[e + AHEAD] * vectors * LANES, vectors * 32);
    VECTOR dot = t[0] * h[0];
    for (long v = 1; v < vectors; v++) dot += t[v] * h[v];
    ((VECTOR *)lanes)[e] = dot;
  }
}

/* Add ratios times eta to a row, GROUP cells at a time: sums go to memory and back less often. */
static inline __attribute__((always_inline)) void NAME(add_to_row)(
    const REAL *eta, const long *columns, const REAL *ratio, REAL *row, long cells, long vectors) {
  VECTOR *a = (VECTOR *)row;
  for (long e = 0; e < cells; e += GROUP) {
    const VECTOR *h[GROUP];
    REAL q[GROUP];
    for (long j = 0; j < GROUP; j++) {
      h[j] = (const VECTOR *)(eta + columns[MIN(e + j, cells - 1)] * vectors * LANES);
      q[j] = e + j < cells ? ratio[e + j] : 0;
    }
    for (long v = 0; v < vectors; v++) a[v] += (q[0] * h[0][v] + q[1] * h[1][v]) + (q[2] * h[2][v] + q[3] * h[3][v]);
  }
}

/* Add ratios times theta to columns. */
static inline __attribute__((always_inline)) void NAME(add_to_columns)(
    const REAL *theta, const long *columns, const REAL *ratio, REAL *sums, long cells, long vectors) {
  const VECTOR *t = (const VECTOR *)theta;
  for (long e = 0; e < cells; e++) {
    if (e + AHEAD < cells) FETCH(sums + columns[e + AHEAD] * vectors * LANES, vectors * 32);
    VECTOR *c = (VECTOR *)(sums + columns[e] * vectors * LANES);
    for (long v = 0; v < vectors; v++) c[v] += ratio[e] * t[v];
  }
}

static inline __attribute__((always_inline)) void NAME(cells)(
    const NAME(shared_given) *g, const REAL *theta, REAL *row, REAL *near, REAL *sums, long from, long to,
    double *evidence, double *lowest, long vectors) {
  static const long in_order[CHUNK] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                       22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                       44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  REAL lanes[CHUNK * LANES] __attribute__((aligned(64))), ratio[CHUNK], low = INFINITY;
  for (long start = from; start < to; start += CHUNK) {
    const long cells = MIN(CHUNK, to - start);
    const long *columns = g->columns + start;
    const REAL *counts = g->counts + start;
    const REAL *eta = g->whole ? g->whole : near;
    const long *place = g->whole ? columns : in_order;
    if (!g->whole)
      for (long e = 0; e < cells; e++) memcpy(near + e * g->width, g->eta + columns[e] * g->K, g->K * sizeof(REAL));
    NAME(dots)(theta, eta, place, lanes, cells, vectors);
    REAL sum = 0;
#pragma omp simd reduction(+ : sum) reduction(min : low)
    for (long e = 0; e < cells; e++) {
      REAL s = 0;
      for (long l = 0; l < LANES; l++) s += lanes[e * LANES + l];
      low = MIN(low, s);
      sum += counts[e] * LOG(s);
      ratio[e] = counts[e] / s;
    }
    *evidence += sum;
    NAME(add_to_row)(eta, place, ratio, row, cells, vectors);
    if (sums) NAME(add_to_columns)(theta, columns, ratio, sums, cells, vectors);
  }
  *lowest = MIN(*lowest, low);
}

/* The first row that begins at or after a block's share of the cells. */
static long NAME(first_row)(const NAME(shared_given) *g, long block) {
  if (block >= g->blocks) return g->N;
  const long target = g->starts[g->N] / g->blocks * block;
  long low = 0, high = g->N;
  while (low < high) {
    const long middle = (low + high) / 2;
    if (g->starts[middle] < target) low = middle + 1; else high = middle;
  }
  return block ? low : 0;
}

static void NAME(shared_block)(zoo_work *work, long block, long thread) {
  const NAME(shared_given) *g = work->given;
  const long K = g->K, width = g->width, to = NAME(first_row)(g, block + 1);
  REAL *theta = g->scratch + thread * (2 + CHUNK + (g->of_columns ? g->M : 0)) * width, *row = theta + width;
  REAL *near = row + width, *sums = g->of_columns ? near + CHUNK * width : 0;
  double evidence = 0, lowest = INFINITY;
  memset(theta, 0, (2 + CHUNK) * width * sizeof(REAL));
  if (sums) memset(sums, 0, g->M * width * sizeof(REAL));
  for (long i = NAME(first_row)(g, block); i < to; i++) {
    memcpy(theta, g->theta + i * K, K * sizeof(REAL));
    memset(row, 0, width * sizeof(REAL));
    const long a = g->starts[i], b = g->starts[i + 1];
    switch (width / LANES) { /* where the number is known, a row stays in registers */
      case 1: NAME(cells)(g, theta, row, near, sums, a, b, &evidence, &lowest, 1); break;
      case 2: NAME(cells)(g, theta, row, near, sums, a, b, &evidence, &lowest, 2); break;
      case 3: NAME(cells)(g, theta, row, near, sums, a, b, &evidence, &lowest, 3); break;
      case 4: NAME(cells)(g, theta, row, near, sums, a, b, &evidence, &lowest, 4); break;
      default: NAME(cells)(g, theta, row, near, sums, a, b, &evidence, &lowest, width / LANES);
    }
    for (long k = 0; k < K; k++) g->of_rows[i * K + k] = theta[k] * row[k];
  }
  g->evidence[block] = evidence;
  g->lowest[block] = lowest;
  if (!sums) return;
  zoo_turn(work, block);
  for (long j = 0; j < g->M; j++) {
    REAL *restrict to = g->of_columns + j * K;
    const REAL *restrict from = sums + j * width, *restrict eta = g->eta + j * K;
    if (g->blocks == 1)
      for (long k = 0; k < K; k++) to[k] = from[k] * eta[k];
    else if (block == 0)
      for (long k = 0; k < K; k++) to[k] = from[k];
    else if (block < g->blocks - 1)
      for (long k = 0; k < K; k++) to[k] += from[k];
    else
      for (long k = 0; k < K; k++) to[k] = (to[k] + from[k]) * eta[k];
  }
  zoo_done(work);
}

/* Of one chain: of_rows [N, K]; of_columns [M, K] unless it is none; sums of x log s, and the lowest s, [block].
   Scratch: [threads (2 + CHUNK + M, without columns less by M), width], width being K rounded up to whole vectors.
   whole: eta in whole vectors, [M, width]; none: they are copied cell by cell. */
void NAME(shared)(const REAL *theta, const REAL *eta, const REAL *whole, const long *starts, const long *columns,
                  const REAL *counts, REAL *of_rows, REAL *of_columns, REAL *evidence, REAL *lowest, REAL *scratch,
                  long N, long M, long K, long blocks, long threads) {
  const long width = (K + LANES - 1) / LANES * LANES;
  NAME(shared_given) given = {theta, eta, K == width ? eta : whole, counts, starts, columns, of_rows, of_columns,
                              scratch, evidence, lowest, N, M, K, width, blocks};
  zoo_run(NAME(shared_block), &given, blocks, threads);
}
