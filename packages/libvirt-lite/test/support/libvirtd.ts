import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { MachineType } from '../../src/domain/index.ts'
import { listens } from './listens.ts'

export const qemu = '/usr/bin/qemu-system-x86_64'
/** Debian's user without rights, whom a session of libvirt runs as when the tests are root's. */
const nobody = 65_534

/** What is needed and not there, or undefined. */
export function missing(): string | undefined {
  const programs = ['/usr/sbin/libvirtd', '/usr/bin/virsh', qemu]
  return programs.find((program) => !existsSync(program))
}

/** The machines of Debian's QEMU, as it lists them. */
export function qemuMachines(): MachineType[] {
  const help = execFileSync(qemu, ['-machine', 'help'], { encoding: 'utf8' })
  const aliases = new Map(
    [...help.matchAll(/^(\S+) .*\(alias of (\S+)\)/gm)].map(([, alias, name]) => [name, alias]),
  )
  return [...help.matchAll(/^(\S+) /gm)]
    .map((match) => match[1] ?? '')
    .filter((name) => name !== 'Supported' && ![...aliases.values()].includes(name))
    .map((name) => {
      const alias = aliases.get(name)
      return alias === undefined ? { name } : { name, alias }
    })
}

/** A libvirtd of its own, with a session that nobody else uses. */
export class Libvirtd {
  readonly folder: string
  readonly #environment: NodeJS.ProcessEnv
  #child: ChildProcess | undefined

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'libvirt-lite-peer-'))
    const below = (name: string) => join(this.folder, name)
    this.#environment = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      HOME: below('home'),
      XDG_RUNTIME_DIR: below('run'),
      XDG_CONFIG_HOME: below('config'),
      XDG_CACHE_HOME: below('cache'),
    }
    for (const name of ['', 'home', 'run', 'config', 'cache']) {
      mkdirSync(below(name), { recursive: true })
      chmodSync(below(name), 0o700)
      if (process.getuid?.() === 0) chownSync(below(name), nobody, nobody)
    }
  }

  /** Where it keeps what domains have besides their disks. */
  get stateDir(): string {
    return join(this.folder, 'config/libvirt/qemu')
  }

  #command(program: string, args: readonly string[]): [string, string[]] {
    if (process.getuid?.() !== 0) return [program, [...args]]
    const drop = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups']
    return ['setpriv', [...drop, program, ...args]]
  }

  async start(): Promise<void> {
    const [program, args] = this.#command('/usr/sbin/libvirtd', ['-p', join(this.folder, 'pid')])
    this.#child = spawn(program, args, {
      env: this.#environment,
      stdio: 'ignore',
      cwd: this.folder,
    })
    for (let tries = 0; tries < 300; tries++) {
      if (await listens(join(this.folder, 'run/libvirt/libvirt-sock'))) return
      if (this.#child.exitCode !== null) break
      await sleep(100)
    }
    throw new Error('libvirtd does not start')
  }

  virsh(...args: string[]): string {
    const uri = `qemu:///session?socket=${this.folder}/run/libvirt/libvirt-sock`
    const [program, all] = this.#command('/usr/bin/virsh', ['-q', '-c', uri, ...args])
    return execFileSync(program, all, {
      env: this.#environment,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    })
  }

  get socket(): string {
    return join(this.folder, 'run/libvirt/libvirt-sock')
  }

  get uri(): string {
    return `qemu:///session?socket=${this.socket}`
  }

  /** Runs a client as whom the daemon runs as, with how it ended. */
  async outcome(
    args: readonly string[],
    program: string = '/usr/bin/virsh',
  ): Promise<{ code: number; output: string }> {
    const all = program.endsWith('/virsh') ? ['-c', this.uri, ...args] : args
    const [command, words] = this.#command(program, all)
    const options = { env: this.#environment, timeout: 60_000, cwd: this.folder }
    try {
      const { stdout } = await promisify(execFile)(command, words, options)
      return { code: 0, output: stdout }
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
      return { code, output: stdout + stderr }
    }
  }

  /** What a definition becomes, or the message with which it is refused. */
  define(xml: string, name: string, ...dumpFlags: string[]): { xml: string } | { error: string } {
    const file = join(this.folder, 'domain.xml')
    writeFileSync(file, xml)
    chmodSync(file, 0o644)
    try {
      this.virsh('define', file)
    } catch (error) {
      return { error: String((error as { stderr?: unknown }).stderr ?? error).trim() }
    }
    try {
      return { xml: this.virsh('dumpxml', ...dumpFlags, name).replace(/\n+$/, '\n') }
    } finally {
      this.virsh('undefine', '--nvram', name)
    }
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child !== undefined && child.exitCode === null) {
      const ended = new Promise((resolve) => child.once('close', resolve))
      child.kill('SIGTERM')
      // A timer that is left over would keep the tests from ending.
      await Promise.race([ended, sleep(10_000, undefined, { ref: false })])
      if (child.exitCode === null) child.kill('SIGKILL')
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const schema = '/usr/share/libvirt/schemas/domain.rng'
const xmllint = '/usr/bin/xmllint'

/** What libvirt's own RelaxNG schema finds wrong; undefined when it or xmllint is not there. */
export function schemaErrors(
  documents: readonly { name: string; xml: string }[],
  folder: string,
): string[] | undefined {
  if (!existsSync(schema) || !existsSync(xmllint)) return undefined
  const files = documents.map(({ name, xml }) => {
    const file = join(folder, `ours-${name}.xml`)
    writeFileSync(file, xml)
    return file
  })
  const { stderr } = spawnSync(xmllint, ['--noout', '--relaxng', schema, ...files], {
    encoding: 'utf8',
  })
  const lines = stderr.split('\n').filter((line) => line !== '')
  const valid = new Set(lines.filter((line) => line.endsWith(' validates')))
  if (
    valid.size + lines.filter((line) => line.endsWith('fails to validate')).length <
    files.length
  ) {
    throw new Error(`xmllint did not look at all documents: ${stderr.slice(-400)}`)
  }
  return lines.filter((line) => !valid.has(line))
}
