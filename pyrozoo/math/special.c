/* digamma and log Gamma of x > 0: by eight steps up where x < 8, then Stirling's series (Abramowitz and Stegun 1964,
   6.1.34, 6.1.40, 6.3.6, 6.3.18). The product of the steps is a polynomial in t = x (x + 7), and its logarithmic
   derivative the sum of the steps of digamma. In double precision for both types. */
#define BLOCK 4096

typedef struct {
  const REAL *x;
  REAL *psi, *log_gamma;
  long n;
} NAME(gamma_given);

static void NAME(gamma_block)(zoo_work *work, long block, long thread) {
  const NAME(gamma_given) *g = work->given;
  const long from = block * BLOCK, to = MIN(g->n, from + BLOCK);
  (void)thread;
#pragma omp simd
  for (long i = from; i < to; i++) {
    const double x = g->x[i], low = x < 8 ? x : 1, t = low * (low + 7);
    const double product = t * (t + 6) * (t + 10) * (t + 12);
    const double slope = (2 * low + 7) * (((4 * t + 84) * t + 504) * t + 720) / product;
    const double z = x < 8 ? x + 8 : x, r = 1 / z, s = r * r;
    const double series =
        s * (1.0 / 12 - s * (1.0 / 120 - s * (1.0 / 252 - s * (1.0 / 240 - s * (1.0 / 132 - s * (691.0 / 32760 -
        s * (1.0 / 12)))))));
    g->psi[i] = log(z) - 0.5 * r - series - (x < 8 ? slope : 0);
  }
  if (!g->log_gamma) return;
#pragma omp simd
  for (long i = from; i < to; i++) {
    const double x = g->x[i], low = x < 8 ? x : 1, t = low * (low + 7);
    const double product = t * (t + 6) * (t + 10) * (t + 12);
    const double z = x < 8 ? x + 8 : x, r = 1 / z, s = r * r, log_z = log(z);
    const double series =
        r * (1.0 / 12 - s * (1.0 / 360 - s * (1.0 / 1260 - s * (1.0 / 1680 - s * (1.0 / 1188 - s * (691.0 / 360360 -
        s * (1.0 / 156)))))));
    g->log_gamma[i] = (z - 0.5) * (log_z - 1) + 0.41893853320467274178 + series - (x < 8 ? log(product) : 0);
  }
}

/* psi, and log_gamma unless it is none, of x [n]. */
void NAME(gamma_functions)(const REAL *x, REAL *psi, REAL *log_gamma, long n, long threads) {
  NAME(gamma_given) given = {x, psi, log_gamma, n};
  zoo_run(NAME(gamma_block), &given, (n + BLOCK - 1) / BLOCK, n > 8 * BLOCK ? threads : 1);
}
