// What a machine shows on its VGA screen, or sends to a terminal.
import { setTimeout as sleep } from 'node:timers/promises'
import type { VirtualMachine } from 'qemu-vmm'
import { bootTimeoutMs } from './guest.ts'

/**
 * Waits until the text of the screen matches, and resolves to it.
 * @throws Error with the screen when the time is over
 */
export async function shows(
  vm: VirtualMachine,
  pattern: RegExp,
  timeoutMs: number = bootTimeoutMs,
): Promise<string> {
  const until = performance.now() + timeoutMs
  for (;;) {
    const screen = await screenText(vm)
    if (pattern.test(screen)) return screen
    if (performance.now() > until) {
      throw new Error(`no ${String(pattern)} on the screen:\n${screen}`)
    }
    await sleep(200)
  }
}

/** The text of the screen; what kind it is of where it has none. */
async function screenText(vm: VirtualMachine): Promise<string> {
  const { kind } = await vm.screenState()
  return kind === 'text' ? await vm.screen() : `(${kind})`
}

/** Rows that are not empty, for a log. */
export function rows(screen: string): string {
  return screen
    .split(/\r*\n/)
    .filter((row) => row.trim() !== '')
    .join('\n')
}

// oxlint-disable-next-line no-control-regex
const escapes = /\u001b(\[[0-9;=?]*[A-Za-z]|[()][A-Z0-9]|c)/g

/** The text without what moves a terminal's cursor and colours it. */
export function withoutEscapes(output: string): string {
  return output.replaceAll(escapes, '')
}
