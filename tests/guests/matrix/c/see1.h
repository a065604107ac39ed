/* All that preview 1 shows. */
static void see(void) { said("see"); }
