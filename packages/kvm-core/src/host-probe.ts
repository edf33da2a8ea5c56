/** Whether the host's KVM really runs 64-bit guests, for `open({ engine: 'auto' })`. */

import { accessSync, constants, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { HostVerdict } from './api/kvm.ts'

/** A first guest takes some 100 ms, most of it to start Node.js. */
const PROBE_MS = 10_000

/** What the verdict depends on; tests bring their own. */
export interface ProbeEnvironment {
  /** Text of `/proc/cpuinfo`. */
  cpuinfo(): string
  /** Throws where the device cannot be opened. */
  access(device: string): void
  /** Different after each boot; undefined where the kernel does not say. */
  bootId(): string | undefined
  /** File that keeps the verdict of this boot. */
  readonly cache: string
  /** Runs the probe guest in a child process; undefined if it did what it should, else why not. */
  probe(device: string): string | undefined
}

const verdicts = new Map<string, HostVerdict>()

/**
 * Whether the KVM behind `device` is good for guests: the CPU has `vmx` or `svm`, the device can be
 * opened, and a small guest in a child process reached 64-bit mode. A KVM on a CPU without either
 * flag is an emulation and never touched. The verdict holds until the next boot.
 */
export function hostVerdict(device: string = '/dev/kvm'): HostVerdict {
  const known = verdicts.get(device)
  if (known !== undefined) return known
  const verdict = judge(device, system())
  verdicts.set(device, verdict)
  return verdict
}

export function judge(device: string, env: ProbeEnvironment): HostVerdict {
  const flags = /^flags\s*:(.*)$/m.exec(env.cpuinfo())?.[1] ?? ''
  if (!/\b(?:vmx|svm)\b/.test(flags)) {
    return { usable: false, reason: 'the CPU flags have neither vmx nor svm' }
  }
  try {
    env.access(device)
  } catch (error) {
    return { usable: false, reason: `${device} cannot be opened (${messageOf(error)})` }
  }
  const bootId = env.bootId()
  const cached = bootId === undefined ? undefined : readVerdict(env.cache, bootId, device)
  if (cached !== undefined) return cached
  const failure = env.probe(device)
  const verdict: HostVerdict = {
    usable: failure === undefined,
    reason: failure ?? 'a probe guest reached 64-bit mode',
  }
  if (bootId !== undefined) writeVerdict(env.cache, { bootId, device, ...verdict })
  return verdict
}

function readVerdict(path: string, bootId: string, device: string): HostVerdict | undefined {
  try {
    const data: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof data !== 'object' || data === null) return undefined
    const { usable, reason, ...rest } = data as Record<string, unknown>
    if (rest['bootId'] !== bootId || rest['device'] !== device) return undefined
    if (typeof usable !== 'boolean' || typeof reason !== 'string') return undefined
    return { usable, reason }
  } catch {
    // Absent or damaged: it is made anew.
    return undefined
  }
}

/** Without a place to write, the next process probes again. */
function writeVerdict(path: string, data: object): void {
  try {
    mkdirSync(dirname(path), { recursive: true })
    // Another process may be reading: it sees the old file or the new one.
    const fresh = `${path}.${process.pid}`
    writeFileSync(fresh, `${JSON.stringify(data)}\n`)
    renameSync(fresh, path)
  } catch {
    // See above.
  }
}

function system(): ProbeEnvironment {
  const { XDG_CACHE_HOME: cache = '' } = process.env
  return {
    cpuinfo: () => readText('/proc/cpuinfo') ?? '',
    access: (device) => accessSync(device, constants.R_OK | constants.W_OK),
    bootId: () => readText('/proc/sys/kernel/random/boot_id')?.trim(),
    cache: join(cache === '' ? join(homedir(), '.cache') : cache, 'kvm-core/host-verdict.json'),
    probe: runProbe,
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function runProbe(device: string): string | undefined {
  const source = import.meta.url.endsWith('.ts')
  const script = new URL(source ? './probe-guest.ts' : './probe-guest.js', import.meta.url)
  // From its sources the child needs the loader that this process was started with.
  const loader = source ? process.execArgv.filter((arg) => arg.startsWith('--import=')) : []
  const child = process
    .getBuiltinModule('node:child_process')
    .spawnSync(process.execPath, [...loader, fileURLToPath(script), device], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: PROBE_MS,
      killSignal: 'SIGKILL',
    })
  if (child.error !== undefined) return `the probe guest did not end (${child.error.message})`
  if (child.status === 0 && child.stdout.trim() === 'ok') return undefined
  const why = child.stdout.trim() || child.stderr.trim().split('\n').at(-1)
  return `the probe guest failed (${why || `status ${child.status ?? child.signal}`})`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
