// A machine in a process of its own, on its serial console: ours and the peer's alike.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** The guest files that the set-up made. */
export const guestFiles = {
  kernel: `${root}.cache/guests/vmlinuz`,
  vmlinux: `${root}.cache/guests/vmlinux`,
  initrd: `${root}.cache/guests/initramfs.cpio`,
  /** The same with drivers for VirtIO. */
  diskInitrd: `${root}.cache/guests/initrd-disk.cpio`,
  /** The folder with SeaBIOS, and a whole disk that it boots. */
  firmware: `${root}.cache/guests/firmware`,
  bootDisk: `${root}.cache/guests/boot.qcow2`,
  /** A whole Debian; made for the benchmarks that need programs of it. */
  debian: `${root}.cache/guests/debian.qcow2`,
} as const

/** The published commands. This one is what npm links; a shell script that pnpm puts before it would be measured, too. */
export const ownCommand = `${root}packages/qemu-vmm/bin/qemu-kvm.cjs`
export const ownImageCommand = `${root}node_modules/.bin/qemu-img`
/** The peer's command. */
export const peerCommand = 'qemu-system-x86_64'
/** A newer release of it, where the set-up could unpack one. */
export const newerPeerCommand = `${root}.cache/peers/backports/qemu-system-x86_64`

/** First line of the version of the peer, or another; undefined when it is not installed. */
export function peerVersion(command: string = peerCommand): string | undefined {
  const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' })
  return status === 0 ? stdout.split('\n')[0] : undefined
}

/** What the guest's shell prints when it waits for a command. */
export const shellPrompt = / # $/

/** Options that boot the guest files to a shell on stdio, for either command. */
export function bootOptions(memoryMib: number, initrd: string = guestFiles.initrd): string[] {
  const machine = ['-m', String(memoryMib), '-nographic', '-no-reboot']
  const files = ['-kernel', guestFiles.kernel, '-initrd', initrd]
  return [...machine, ...files, '-append', 'console=ttyS0 quiet']
}

/** A running machine process whose stdio is the guest's console. */
export class GuestProcess {
  readonly #child: ChildProcess
  readonly #exited: Promise<number>
  #output = ''
  #wake: () => void = () => {}
  /** performance.now() when the process was started. */
  readonly startedAt: number = performance.now()

  /** `environment` is added to this process's own. */
  constructor(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    const env = { ...process.env, ...environment }
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env })
    this.#exited = new Promise((resolve, reject) => {
      this.#child.on('error', reject)
      this.#child.on('close', (code) => resolve(code ?? 128))
    })
    // Those who wait learn of a failed start; nobody may be waiting yet.
    this.#exited.catch(() => {})
    this.#child.stdout?.setEncoding('utf8')
    this.#child.stdout?.on('data', (text: string) => {
      // The shell asks its terminal where the cursor is, and any piece may end within the question.
      this.#output = (this.#output + text).replaceAll('\u001b[6n', '')
      this.#wake()
    })
    this.#child.stdin?.on('error', () => {})
  }

  /** Process id of the command; the machine may be in a child of it. */
  get pid(): number {
    const { pid } = this.#child
    if (pid === undefined) throw new Error('the machine process did not start')
    return pid
  }

  /**
   * Resolves to what the console printed up to the pattern, and forgets it.
   * @throws Error when the process ends or the time is over before
   */
  async expect(pattern: RegExp, seconds = 300): Promise<string> {
    const until = performance.now() + seconds * 1000
    const ended = this.#exited.then((code) => `the machine ended with ${code}`)
    for (;;) {
      const match = pattern.exec(this.#output)
      if (match) {
        const seen = this.#output.slice(0, match.index + match[0].length)
        this.#output = this.#output.slice(seen.length)
        return seen
      }
      const trouble = await this.#change(until, ended)
      if (trouble && !pattern.test(this.#output)) {
        throw new Error(
          `${trouble} while waiting for ${pattern}; last: ${this.#output.slice(-500)}`,
        )
      }
    }
  }

  async #change(until: number, ended: Promise<string>): Promise<string | undefined> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve('time is over'), Math.max(0, until - performance.now()))
    })
    const output = new Promise<undefined>((resolve) => {
      this.#wake = () => resolve(undefined)
    })
    const result = await Promise.race([output, ended, late])
    clearTimeout(timer)
    return result
  }

  /** True if the console printed the pattern already, and nobody expected it yet. */
  hasPrinted(pattern: RegExp): boolean {
    return pattern.test(this.#output)
  }

  /** Types on the console. */
  type(text: string): void {
    this.#child.stdin?.write(text)
  }

  /** Runs a command in the guest's shell and resolves to what it printed. */
  async shell(command: string, seconds?: number): Promise<string> {
    this.type(`${command}\n`)
    const seen = await this.expect(shellPrompt, seconds)
    return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1)
  }

  /** Ends the process if it has not ended, and resolves to its exit code (128 after a signal). */
  async stop(): Promise<number> {
    this.#child.kill('SIGTERM')
    return await this.#exited
  }
}
