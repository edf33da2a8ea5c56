// What a benchmark is: a module in src/benchmarks that exports these two names.

/** How much to measure. */
export interface Effort {
  /** Fewer rounds, for a look while developing; results are not for quoting. */
  readonly quick: boolean
  /** What to measure of a benchmark that has items, by their names or their groups'; everything when it is empty. */
  readonly items?: readonly string[]
}

/**
 * Named results: times say their unit in the name (`bootMs`), ratios end in `Ratio`. `failures` names what has no result:
 * the benchmark counts as failed then.
 */
export type Results = Record<string, number | string>

/** A module of src/benchmarks. */
export interface Benchmark {
  /** The name on the command line. */
  readonly name: string
  /** Measures once; what it prints to stderr is progress. */
  readonly run: (effort: Effort) => Promise<Results>
}

/** Progress, which does not belong to the results. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}
