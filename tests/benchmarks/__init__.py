"""What measures speed: `python -m tests.benchmarks`, and the bench_* modules, commands of their own."""
