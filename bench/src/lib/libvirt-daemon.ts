// Daemons of libvirt's protocol, each with a folder and a socket of its own: ours, and libvirt's as a session that nobody
// else uses.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from 'libvirt-lite/rpc'

const ownDaemonCommand = fileURLToPath(
  new URL('../../../packages/libvirt-lite/bin/libvirt-lite.js', import.meta.url),
)
const peerDaemonCommand = '/usr/sbin/libvirtd'
/** Debian's user without rights, whom libvirt's session runs as when the benchmark is root's. */
const nobody = 65_534
/** Flag of `virConnectListAllDomains`. */
const LIST_ACTIVE = 1

/** Whether libvirt's daemon is installed. */
export function hasPeerDaemon(): boolean {
  return existsSync(peerDaemonCommand)
}

/** Whether the client that both daemons are asked with is installed. */
export function hasVirsh(): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, 'virsh')))
}

/** A daemon that runs until it is stopped. */
export class LibvirtDaemon {
  /** Where it keeps everything; gone when it is stopped. */
  readonly folder: string
  readonly #isOwn: boolean
  #child: ChildProcess | undefined

  private constructor(isOwn: boolean) {
    this.#isOwn = isOwn
    this.folder = mkdtempSync(join(tmpdir(), 'bench-libvirt-'))
    for (const name of ['.', 'home', 'run', 'config', 'cache']) {
      const path = join(this.folder, name)
      mkdirSync(path, { recursive: true })
      chmodSync(path, 0o700)
      if (!isOwn && process.getuid?.() === 0) chownSync(path, nobody, nobody)
    }
  }

  static async start(side: 'own' | 'peer'): Promise<LibvirtDaemon> {
    const daemon = new LibvirtDaemon(side === 'own')
    await daemon.startAgain()
    return daemon
  }

  get socket(): string {
    return join(this.folder, this.#isOwn ? 'socket' : 'run/libvirt/libvirt-sock')
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** On the folder as it is, after {@link kill}. */
  async startAgain(): Promise<void> {
    const [program, args] = this.#isOwn ? this.#ownCommand() : this.#peerCommand()
    const child = spawn(program, args, {
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: this.#isOwn ? process.env : this.#peerEnvironment(),
    })
    this.#child = child
    // What it says matters only when it does not come up.
    let said = ''
    child.stderr
      ?.setEncoding('utf8')
      .on('data', (text: string) => (said = (said + text).slice(-4000)))
    for (let tries = 0; tries < 600; tries++) {
      const client = await Client.open({ path: this.socket }, { uri: 'qemu:///session' }).catch(
        () => undefined,
      )
      if (client !== undefined) return await client.close()
      if (child.exitCode !== null) break
      await sleep(50)
    }
    throw new Error(`${program} does not answer on ${this.socket}: ${said}`)
  }

  #ownCommand(): [string, string[]] {
    const places = ['--state', join(this.folder, 'state'), '--socket', this.socket]
    return [process.execPath, [ownDaemonCommand, ...places]]
  }

  #peerCommand(): [string, string[]] {
    const args = ['--pid-file', join(this.folder, 'pid')]
    if (process.getuid?.() !== 0) return [peerDaemonCommand, args]
    const drop = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups']
    return ['setpriv', [...drop, peerDaemonCommand, ...args]]
  }

  #peerEnvironment(): NodeJS.ProcessEnv {
    return {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      HOME: join(this.folder, 'home'),
      XDG_RUNTIME_DIR: join(this.folder, 'run'),
      XDG_CONFIG_HOME: join(this.folder, 'config'),
      XDG_CACHE_HOME: join(this.folder, 'cache'),
    }
  }

  client(): Promise<Client> {
    return Client.open({ path: this.socket }, { uri: 'qemu:///session' })
  }

  /** Runs virsh, and resolves to what it printed. */
  async virsh(...args: string[]): Promise<string> {
    const uri = `qemu+unix:///session?socket=${this.socket}`
    const all = ['-q', '-c', uri, ...args]
    const { stdout } = await promisify(execFile)('virsh', all, { maxBuffer: 1 << 26 })
    return stdout
  }

  /** MiB of memory that the process has. */
  get residentMib(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
  }

  /** Ends the process as it is, in whatever it does. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** Ends it and its domains, which would go on without it, and removes what it kept. */
  async stop(): Promise<void> {
    await this.end()
    this.remove()
  }

  /** Removes what it kept. */
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Ends it and its domains alone. */
  async end(): Promise<void> {
    const client = await this.client().catch(() => undefined)
    if (client !== undefined) {
      const running = { needResults: 1, flags: LIST_ACTIVE }
      const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', running)
      for (const dom of domains) {
        // It may have ended by itself.
        await client.call('DOMAIN_DESTROY', { dom }).catch(() => undefined)
      }
      await client.close()
    }
    await this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
}
