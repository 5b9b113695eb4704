/* One sweep of messages (messages.py), in strips of rows, tile after tile of a row: every message is read and written
   once, and what a tile needs stays in the cache. Messages are [C, 4, K, H, W]; travelling right, left, down and up. */
#include <stdlib.h>

#define TILE 128
#define EACH(x, n) _Pragma("omp simd") for (long x = 0; x < (n); x++)
#define LOWEST _Generic((REAL)0, float: -3e38f, double: -1e300)

typedef struct {
  const REAL *old, *unary, *coupling; /* [C, 4, K, H, W], [K, H, W]; J, or exp(J - top) where sums are taken [K, K] */
  REAL *new, *estimate, *change;      /* [C, 4, K, H, W]; Bethe's estimate and the largest change, [C, strips] */
  long K, H, W, strip, maximise;
  REAL top, damping, lowest;
} NAME(sweep_given);

/* Of a tile, by direction: exp(cavity - largest), what is sent, its sums before the logarithm; the last pixel's sums of
   the tile before stand at -1. Of the whole row above: sums sent down. */
typedef struct {
  REAL *weight[4], *sums[4], *sent, *belief, *above, *above_scale;
  REAL scale[4][TILE + 1], whole[TILE], room[TILE];
} NAME(sweep_work);

#define ROW (TILE + 8)

static void NAME(tile)(const NAME(sweep_given) *g, NAME(sweep_work) *w, long chain, long y, long from, int halo, int first,
                       double *total, REAL *changed) {
  const long K = g->K, H = g->H, W = g->W, n = MIN(TILE, W - from), plane = H * W, at = y * W + from;
  const REAL *old = g->old + chain * 4 * K * plane, *J = g->coupling;
  for (int d = 0; d < 4; d++) EACH(x, n) w->scale[d][x + 1] = LOWEST;
  EACH(x, n) w->whole[x] = LOWEST;
  for (long k = 0; k < K; k++) {
    const REAL *m[4], *u = g->unary + k * plane + at;
    REAL *c[4], *b = w->belief + k * ROW;
    for (int d = 0; d < 4; d++) m[d] = old + (d * K + k) * plane + at, c[d] = w->weight[d] + k * ROW;
    EACH(x, n) {
      const REAL upright = m[2][x] + m[3][x] + u[x], level = m[0][x] + m[1][x] + u[x];
      c[0][x] = m[0][x] + upright, c[1][x] = m[1][x] + upright;
      c[2][x] = m[2][x] + level, c[3][x] = m[3][x] + level;
      b[x] = level + m[2][x] + m[3][x];
    }
    for (int d = 0; d < 4; d++) EACH(x, n) w->scale[d][x + 1] = MAX(w->scale[d][x + 1], c[d][x]);
    EACH(x, n) w->whole[x] = MAX(w->whole[x], b[x]);
  }
  for (int d = 0; d < 4; d++) {
    if (halo && d != 3) continue;
    REAL *scale = w->scale[d] + 1;
    if (!g->maximise)
      for (long k = 0; k < K; k++) EACH(x, n) w->weight[d][k * ROW + x] = EXP(w->weight[d][k * ROW + x] - scale[x]);
    if (halo) continue;
    EACH(x, n) w->room[x] = LOWEST;
    for (long l = 0; l < K; l++) {
      REAL *sums = w->sums[d] + l * ROW + 1, *sent = w->sent + l * ROW;
      EACH(x, n) sums[x] = g->maximise ? LOWEST : 0;
      for (long k = 0; k < K; k++) {
        const REAL *c = w->weight[d] + k * ROW, j = J[l * K + k];
        if (g->maximise) {
          EACH(x, n) sums[x] = MAX(sums[x], c[x] + j);
        } else {
          EACH(x, n) sums[x] += c[x] * j;
        }
      }
      EACH(x, n) sent[x] = g->maximise ? sums[x] : LOG(sums[x]);
      EACH(x, n) w->room[x] = MAX(w->room[x], sent[x]);
    }
    /* To whom: where the row and the pixels stand that receive. */
    const long to = at + (d == 2 ? W : d == 3 ? -W : d == 0 ? 1 : -1);
    const long start = d == 1 && from == 0, end = d == 0 && from + n == W ? n - 1 : n;
    if ((d == 2 && y + 1 == H) || (d == 3 && y == 0)) continue;
    REAL most = *changed;
    for (long l = 0; l < K; l++) {
      const REAL *sent = w->sent + l * ROW, *was = old + (d * K + l) * plane + to;
      REAL *new = g->new + chain * 4 * K * plane + (d * K + l) * plane + to;
#pragma omp simd reduction(max : most)
      for (long x = start; x < end; x++) {
        const REAL value = MAX(sent[x] - w->room[x], g->lowest), moved = value + g->damping * (was[x] - value);
        const REAL away = moved > was[x] ? moved - was[x] : was[x] - moved;
        new[x] = moved;
        most = MAX(most, away);
      }
    }
    *changed = most;
  }
  if (g->maximise) return;
  /* Bethe: log Z of pixels, 1 - degree times, and of the edges to the left and above. */
  double sum = 0;
  if (!halo) {
    EACH(x, n) w->room[x] = 0;
    for (long k = 0; k < K; k++) EACH(x, n) w->room[x] += EXP(w->belief[k * ROW + x] - w->whole[x]);
    const REAL inside = 1 - (REAL)((y > 0) + (y + 1 < H));
#pragma omp simd reduction(+ : sum)
    for (long x = 0; x < n; x++) {
      const REAL degree = (from + x > 0) + (from + x + 1 < W);
      sum += (inside - degree) * (LOG(w->room[x]) + w->whole[x]);
    }
    EACH(x, n) w->room[x] = 0;
    for (long l = 0; l < K; l++) EACH(x, n) w->room[x] += w->sums[0][l * ROW + x] * w->weight[1][l * ROW + x];
#pragma omp simd reduction(+ : sum)
    for (long x = from == 0; x < n; x++) sum += LOG(w->room[x]) + w->scale[0][x] + g->top + w->scale[1][x + 1];
  }
  if (!first) {
    EACH(x, n) w->room[x] = 0;
    for (long l = 0; l < K; l++) EACH(x, n) w->room[x] += w->above[l * W + from + x] * w->weight[3][l * ROW + x];
#pragma omp simd reduction(+ : sum)
    for (long x = 0; x < n; x++) sum += LOG(w->room[x]) + w->above_scale[from + x] + g->top + w->scale[3][x + 1];
  }
  if (!halo) {
    for (long l = 0; l < K; l++) {
      memcpy(w->above + l * W + from, w->sums[2] + l * ROW + 1, n * sizeof(REAL));
      w->sums[0][l * ROW] = w->sums[0][l * ROW + n];
    }
    memcpy(w->above_scale + from, w->scale[2] + 1, n * sizeof(REAL));
    w->scale[0][0] = w->scale[0][n];
  }
  *total += sum;
}

/* What comes from beyond the edge of the image: nothing. */
static void NAME(edges)(const NAME(sweep_given) *g, long chain, long y) {
  const long K = g->K, H = g->H, W = g->W, plane = H * W;
  for (long k = 0; k < K; k++) {
    REAL *new = g->new + (chain * 4 * K + k) * plane + y * W;
    new[0] = new[K * plane + W - 1] = 0;
    if (y == 0) memset(new + 2 * K * plane, 0, W * sizeof(REAL));
    if (y == H - 1) memset(new + 3 * K * plane, 0, W * sizeof(REAL));
  }
}

static void NAME(strip)(zoo_work *work, long block, long thread) {
  const NAME(sweep_given) *g = work->given;
  const long K = g->K, W = g->W, strips = (g->H + g->strip - 1) / g->strip, chain = block / strips;
  const long begin = block % strips * g->strip, end = MIN(g->H, begin + g->strip);
  NAME(sweep_work) w;
  REAL *memory = malloc((10 * K * ROW + (K + 1) * W) * sizeof(REAL)), *whole = memory, changed = 0;
  double total = 0;
  (void)thread;
  for (int d = 0; d < 4; d++) w.weight[d] = memory, w.sums[d] = memory + 4 * K * ROW, memory += K * ROW;
  memory += 4 * K * ROW;
  w.sent = memory, w.belief = memory + K * ROW, w.above = memory + 2 * K * ROW, w.above_scale = w.above + K * W;
  for (long y = begin; y < end + (end < g->H && !g->maximise); y++) {
    if (y < end) NAME(edges)(g, chain, y);
    for (long x = 0; x < W; x += TILE) NAME(tile)(g, &w, chain, y, x, y == end, y == begin, &total, &changed);
  }
  g->estimate[block] = total;
  g->change[block] = changed;
  free(whole);
}

/* All messages, once; strip is how many rows go together. */
void NAME(sweep)(const REAL *old, const REAL *unary, const REAL *coupling, REAL *new, REAL *estimate, REAL *change, long C,
                 long K, long H, long W, long strip, long maximise, double top, double damping, double lowest, long threads) {
  NAME(sweep_given) given = {old, unary, coupling, new, estimate, change, K, H, W, strip, maximise, top, damping, lowest};
  zoo_run(NAME(strip), &given, C * ((H + strip - 1) / strip), threads);
}
