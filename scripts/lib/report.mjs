// Counts tests of several runners, and prints what went wrong in them.

/** TAP, as AVA writes it: failures come with an indented block that explains them. */
export class TapCounter {
  passed = 0
  failed = 0
  skipped = 0
  #inFailure = false

  /**
   * @param {string} line
   * @returns {boolean} whether the line is worth showing
   */
  see(line) {
    const result = /^(not )?ok \d+/.exec(line)
    if (result) {
      if (/# (?:SKIP|TODO)/.test(line)) this.skipped++
      else if (result[1]) this.failed++
      else this.passed++
      this.#inFailure = result[1] !== undefined
      return true
    }
    if (/^(?:TAP version|1\.\.|# (?:tests|pass|fail|skip) |# .* hook$|\s*$)/.test(line))
      return false
    return this.#inFailure || !/^ {2,}(?:---|\.\.\.)/.test(line)
  }
}

/** Cargo's test harness: one summary line per test program. */
export class CargoCounter {
  passed = 0
  failed = 0
  skipped = 0

  /**
   * @param {string} line
   * @returns {boolean} whether the line is worth showing
   */
  see(line) {
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
    if (result) {
      this.passed += Number(result[1])
      this.failed += Number(result[2])
      this.skipped += Number(result[3])
      return Number(result[1]) + Number(result[2]) > 0
    }
    return !/^(?:running \d+ tests?|test .* \.\.\. (?:ok|ignored.*)|\s*)$/.test(line)
  }
}
