// A machine in a process of its own, and the guest's shell on its serial console.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { root } from './program.ts'

/** The guest files that the set-up made. */
export const guestFiles = {
  kernel: `${root}.cache/guests/vmlinuz`,
  vmlinux: `${root}.cache/guests/vmlinux`,
  initrd: `${root}.cache/guests/initramfs.cpio`,
  /** The same with drivers for VirtIO; it goes on from the disk that `root=` names. */
  diskInitrd: `${root}.cache/guests/initrd-disk.cpio`,
  /** The same as `initrd` with drivers for IDE. */
  ataInitrd: `${root}.cache/guests/initrd-ata.cpio`,
  /** A kernel with drivers for network cards, and the same as `initrd` with them. */
  cardsKernel: `${root}.cache/guests/cards/vmlinuz`,
  cardsInitrd: `${root}.cache/guests/cards/initrd.cpio`,
  disk: `${root}.cache/guests/root.qcow2`,
  /** The folder with SeaBIOS. */
  firmware: `${root}.cache/guests/firmware`,
  /** The folder with iPXE for network cards. */
  ipxe: `${root}.cache/guests/ipxe`,
  /** The folder with UEFI firmware and its variable stores. */
  ovmf: `${root}.cache/guests/ovmf`,
  /** A whole disk, with GRUB, that firmware boots. */
  bootDisk: `${root}.cache/guests/boot.qcow2`,
  /** For 32-bit machines, and `npm run test:guests` only. */
  kernel32: `${root}.cache/guests/i386/vmlinuz`,
  initrd32: `${root}.cache/guests/i386/initramfs.cpio`,
  /** A disk with Debian's compiler, where it was made. */
  programs: `${root}.cache/guests/programs.img`,
  /** The folder with CDs, for `npm run test:guests` only. */
  cds: `${root}.cache/guests/cd`,
  /** A whole Debian, for `npm run test:guests` only. */
  debian: `${root}.cache/guests/debian.qcow2`,
  /** The same for 32-bit machines. */
  debian32: `${root}.cache/guests/debian32.qcow2`,
} as const

/** The commands as a user calls them. */
export const command = `${root}node_modules/.bin/qemu-kvm`
export const imageCommand = `${root}node_modules/.bin/qemu-img`
/** What machines are compared with, where it is installed. */
export const peer = 'qemu-system-x86_64'
/** Whether the peer is there. */
export const hasPeer: boolean = spawnSync(peer, ['--version']).status === 0

/** A boot takes seconds; a busy machine may take many times as long. */
export const bootTimeoutMs = 300_000
/** The shell waits for a command. */
export const prompt = / # $/
/** What the shell asks its terminal at each prompt: nobody answers here. */
const cursorQuery = '\u001b[6n'

/** Options for a boot of the guest files to a shell on stdio. */
export function bootArguments(
  options: { memoryMib?: number; kernel?: string; initrd?: string; append?: string } = {},
): string[] {
  const { memoryMib = 128, kernel = guestFiles.kernel, append = '' } = options
  const files = ['-kernel', kernel, '-initrd', options.initrd ?? guestFiles.initrd]
  const text = `console=ttyS0 quiet ${append}`.trim()
  return ['-m', String(memoryMib), '-nographic', ...files, '-append', text]
}

/** How a process ended. */
export interface End {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A running command whose stdio is the guest's console. */
export class GuestProcess {
  readonly child: ChildProcess
  readonly ended: Promise<End>
  #end: End | undefined
  #unread = ''
  #wake: () => void = () => {}
  /** All that it printed, without what is meant for a terminal only. */
  output = ''
  stderr = ''

  constructor(program: string, args: readonly string[]) {
    this.child = spawn(program, args, { cwd: root, stdio: 'pipe' })
    this.ended = new Promise((resolve, reject) => {
      this.child.on('error', reject)
      this.child.on('close', (code, signal) => {
        this.#end = { code, signal }
        resolve(this.#end)
        this.#wake()
      })
    })
    this.ended.catch(() => {})
    this.child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      // A piece may end within the question: it is found once the rest is there.
      this.#unread = (this.#unread + text).replaceAll(cursorQuery, '')
      this.output = (this.output + text).replaceAll(cursorQuery, '')
      this.#wake()
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.child.stdin?.on('error', () => {})
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /**
   * Resolves to the output up to the end of the match, and forgets it.
   * @throws Error when the process ends or the time is over before
   */
  async expect(pattern: RegExp, timeoutMs: number = bootTimeoutMs): Promise<string> {
    const until = performance.now() + timeoutMs
    for (;;) {
      const match = pattern.exec(this.#unread)
      if (match) {
        const seen = this.#unread.slice(0, match.index + match[0].length)
        this.#unread = this.#unread.slice(seen.length)
        return seen
      }
      const left = until - performance.now()
      if (this.#end !== undefined || left <= 0) {
        const why = this.#end === undefined ? 'time is over' : `ended with ${this.#end.code}`
        const tail = this.output.slice(-1500)
        throw new Error(`${why} while waiting for ${pattern}; last: ${tail}\n${this.stderr}`)
      }
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        timer = setTimeout(resolve, left)
      })
      clearTimeout(timer)
    }
  }

  type(text: string): void {
    this.child.stdin?.write(text)
  }

  /** Runs a command in the guest's shell and resolves to what it printed. */
  async shell(line: string): Promise<string> {
    this.type(`${line}\n`)
    const seen = await this.expect(prompt)
    return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1).replaceAll('\r', '')
  }

  /** Resolves to how it ended by itself. */
  async end(timeoutMs: number = bootTimeoutMs): Promise<End> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), timeoutMs)
    const end = await this.ended
    clearTimeout(timer)
    return end
  }

  /** Ends it, whatever it does. */
  async kill(): Promise<void> {
    if (this.#end === undefined) this.child.kill('SIGKILL')
    await this.ended
  }
}

/** Starts a machine, hands it to `work`, and leaves no process behind. */
export async function withMachine<T>(
  args: readonly string[],
  work: (guest: GuestProcess) => Promise<T>,
  program: string = command,
): Promise<T> {
  const guest = new GuestProcess(program, args)
  try {
    return await work(guest)
  } finally {
    await guest.kill()
  }
}

/** The same with one that has booted to its shell. */
export async function withGuest<T>(
  args: readonly string[],
  work: (guest: GuestProcess) => Promise<T>,
  program: string = command,
): Promise<T> {
  return await withMachine(
    args,
    async (guest) => {
      await guest.expect(prompt)
      return await work(guest)
    },
    program,
  )
}
