/** The part of `process.stdin` that is used. */
export interface RawInput {
  isTTY?: boolean
  setRawMode?(mode: boolean): unknown
}

/** The part of `process` that is used. */
export interface SignalSource {
  readonly pid: number
  on(event: NodeJS.Signals | 'exit', listener: () => void): unknown
  off(event: NodeJS.Signals | 'exit', listener: () => void): unknown
  kill(pid: number, signal: NodeJS.Signals): unknown
}

/**
 * Raw mode of the terminal: characters arrive one by one, without echo, Ctrl-C included.
 *
 * The mode that was found is put back whenever the process stops using the terminal: at `disable`,
 * at any exit that runs handlers (also after an uncaught exception), and while the process is
 * suspended. SIGKILL leaves no chance; `stty sane` helps then.
 */
export class RawMode {
  readonly #input: RawInput
  readonly #process: SignalSource
  #enabled = false

  constructor(input: RawInput, source: SignalSource = process) {
    this.#input = input
    this.#process = source
  }

  /** Whether there is a terminal that has modes. */
  get isTerminal(): boolean {
    return this.#input.isTTY === true
  }

  enable(): void {
    if (this.#enabled || !this.isTerminal) return
    this.#enabled = true
    this.#set(true)
    this.#process.on('exit', this.#restore)
    this.#process.on('SIGTSTP', this.#suspend)
    this.#process.on('SIGCONT', this.#continue)
    this.#process.on('SIGQUIT', this.#quit)
  }

  disable(): void {
    if (!this.#enabled) return
    this.#enabled = false
    this.#process.off('exit', this.#restore)
    this.#process.off('SIGTSTP', this.#suspend)
    this.#process.off('SIGCONT', this.#continue)
    this.#process.off('SIGQUIT', this.#quit)
    this.#set(false)
  }

  readonly #restore = (): void => this.#set(false)

  readonly #suspend = (): void => {
    this.#set(false)
    // SIGTSTP with a handler does not stop the process; SIGSTOP always does.
    this.#process.kill(this.#process.pid, 'SIGSTOP')
  }

  readonly #continue = (): void => {
    // The shell has had the terminal and left it in its own mode, which the runtime does not
    // know: it sets a mode only when it believes that the mode changes.
    this.#set(false)
    this.#set(true)
  }

  readonly #quit = (): void => {
    this.disable()
    // Without a handler the signal does what it does by default: end with a core dump.
    this.#process.kill(this.#process.pid, 'SIGQUIT')
  }

  #set(mode: boolean): void {
    try {
      this.#input.setRawMode?.(mode)
    } catch {
      // The terminal has hung up; there is no mode left to set.
    }
  }
}
