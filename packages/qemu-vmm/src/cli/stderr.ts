/** Where lines for the user go: standard error, or what a daemon has instead. */
let sink = (text: string): void => void process.stderr.write(text)

/** Shows text, which ends with a newline, to whoever started the program. */
export function printError(text: string): void {
  sink(text)
}

/** Sends what {@link printError} is given somewhere else from now on. */
export function redirectErrors(to: (text: string) => void): void {
  sink = to
}
