import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Duplex } from 'node:stream'
import { QmpClient } from './qmp.ts'

/** An emulator that has not answered by then is not asked any more. */
const PROBE_MS = 20_000

/**
 * Asks an emulator by its monitor, with a machine that has nothing. Rejects with `VirtError` or the system's error; the
 * process has ended in any case.
 */
export async function probe<T>(
  emulator: string,
  type: 'kvm' | 'qemu',
  ask: (monitor: QmpClient) => Promise<T>,
): Promise<T> {
  const accelerator = type === 'kvm' ? 'kvm' : 'tcg'
  const args = ['-S', '-no-user-config', '-nodefaults', '-display', 'none']
  args.push('-machine', `none,accel=${accelerator}`, '-qmp', 'stdio')
  const child = spawn(emulator, args, { stdio: ['pipe', 'pipe', 'ignore'], timeout: PROBE_MS })
  const ended = once(child, 'close')
  // It is told by what is asked for.
  ended.catch(() => undefined)
  try {
    const stream = Duplex.from({ readable: child.stdout, writable: child.stdin })
    const events = { event: () => undefined, closed: () => undefined }
    const monitor = await QmpClient.over(stream, events)
    const answer = await ask(monitor)
    await monitor.execute('quit').catch(() => undefined)
    return answer
  } finally {
    child.kill('SIGKILL')
    await ended.catch(() => undefined)
  }
}
