/** Where text for the user goes: standard error and output, or what a daemon has instead. */
let errors = (text: string): void => void process.stderr.write(text)
let output = (text: string): void => void process.stdout.write(text)

/** Shows text, which ends with a newline, to whoever started the program. */
export function printError(text: string): void {
  errors(text)
}

/** Shows a line that is no error. */
export function printLine(line: string): void {
  output(`${line}\n`)
}

/** Sends what {@link printError} and {@link printLine} are given somewhere else from now on. */
export function redirect(to: { errors(text: string): void; output(text: string): void }): void {
  errors = (text) => to.errors(text)
  output = (text) => to.output(text)
}
