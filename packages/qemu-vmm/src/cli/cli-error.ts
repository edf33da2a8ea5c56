/** What the command is called in its messages. */
export const PROGRAM = 'qemu-kvm'

/**
 * A start-up error that the user can put right: a bad option, key or value.
 * It is printed as one line, without a stack, and the process ends with status 1.
 */
export class CliError extends Error {
  override readonly name: string = 'CliError'

  /**
   * @param message what is wrong, without the name of the program
   * @param at the option with its argument as the user typed it, shown in front of the message
   */
  constructor(message: string, at?: string) {
    super(at === undefined ? message : `${at}: ${message}`)
  }
}
