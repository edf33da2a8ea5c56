// What a guest must show after its state was loaded: it goes on, and it does not notice.
import type { VirtualMachine } from 'qemu-vmm'
import { bootTimeoutMs } from './guest.ts'

/** The machine that states are taken from and loaded into. */
export const savedMachine = { memory: 128 << 20, append: 'console=ttyS0' } as const

/** The shell's prompt, and what it asks the terminal then; no message of the kernel looks like it. */
const shellPrompt = / # \u001b\[6n/

/**
 * Linux says so when time jumped, or an interrupt did not come. By the HPET it counts those of the RTC, and
 * a busy host is late for one now and then.
 */
const complaints =
  /clocksource.*unstable|soft lockup|hung_task|rcu.*stall|lost (?!\d+ RTC).*interrupt|BUG:|WARNING:|Oops|time.*backwards|IO-APIC.*broken|nobody cared/i

/**
 * Takes the guest to its shell and makes it tell its time and its messages.
 * @param atShell its prompt was printed before the state was saved
 * @param earliest seconds that its clock cannot be behind
 * @returns what is wrong, or undefined
 */
export async function checkResumed(
  vm: VirtualMachine,
  atShell: boolean,
  earliest: number,
): Promise<string | undefined> {
  const wait = { timeoutMs: bootTimeoutMs }
  const start = performance.now()
  // Only the prompt: what comes before it may have been printed when the state was saved.
  if (!atShell) await vm.expect(shellPrompt, wait)
  vm.type('stty -echo\n')
  await vm.expect(/ # /, wait)
  vm.type('sleep 0.3; echo "up <$(cut -d" " -f1 /proc/uptime)>"\n')
  const text = await vm.expect(/up <[\d.]+>\r?\n/, wait)
  const uptime = Number(/up <([\d.]+)>/.exec(text)?.[1])
  const latest = earliest + (performance.now() - start) / 1000 + 2
  // Linux counts from a moment after its start.
  if (uptime < earliest - 3 || uptime > latest) {
    return `the guest is up for ${uptime} s, which is not within ${earliest} and ${latest}`
  }
  vm.type('dmesg; echo "the end"\n')
  const messages = await vm.expect('the end\r\n', wait)
  const complaint = messages.split('\n').find((line) => complaints.test(line))
  if (complaint !== undefined) return complaint
  vm.type('poweroff -f\n')
  const { reason, error } = await vm.exited
  return reason === 'shutdown' ? undefined : `${reason}: ${String(error)}`
}
