// A control group as the kernel shows it, in a folder: it takes what the kernel takes and refuses what it refuses.
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { GroupFiles } from '../../src/driver/control-groups/groups.ts'

const refused = (code: string, path: string): Error =>
  Object.assign(new Error(`${code}: ${path}`), { code })

const words = (path: string): string[] =>
  readFileSync(path, 'utf8')
    .split(/\s+/)
    .filter((word) => word !== '')

/** What the kernel accepts in the files of its controllers. */
const VALUES: Record<string, { controller: string; value: RegExp }> = {
  'cpu.weight': { controller: 'cpu', value: /^([1-9]\d{0,3}|10000)$/ },
  'cpu.max': { controller: 'cpu', value: /^(max|[1-9]\d{3,}) [1-9]\d{3,6}$/ },
  'memory.high': { controller: 'memory', value: /^(max|\d+)$/ },
  'memory.max': { controller: 'memory', value: /^(max|\d+)$/ },
  'memory.swap.max': { controller: 'memory', value: /^(max|\d+)$/ },
  'io.weight': { controller: 'io', value: /^default \d+$/ },
}

export class GroupTree implements GroupFiles {
  readonly path: string

  /** A group in `folder` that has been given these controllers, and has these processes in it. */
  constructor(folder: string, controllers: string, processes: readonly number[] = []) {
    this.path = join(realpathSync(folder), 'group')
    this.#fill(this.path, controllers)
    writeFileSync(join(this.path, 'cgroup.procs'), processes.map((pid) => `${pid}\n`).join(''))
  }

  #fill(path: string, controllers: string): void {
    mkdirSync(path)
    writeFileSync(join(path, 'cgroup.controllers'), controllers)
    writeFileSync(join(path, 'cgroup.type'), 'domain')
    for (const name of ['procs', 'threads', 'subtree_control']) {
      writeFileSync(join(path, `cgroup.${name}`), '')
    }
  }

  make(path: string): void {
    if (existsSync(path)) throw refused('EEXIST', path)
    this.#fill(path, words(join(dirname(path), 'cgroup.subtree_control')).join(' '))
  }

  remove(path: string): void {
    const below = readdirSync(path, { withFileTypes: true }).filter((it) => it.isDirectory())
    const lives = [...words(join(path, 'cgroup.procs')), ...words(join(path, 'cgroup.threads'))]
    if (below.length > 0 || lives.some((pid) => existsSync(`/proc/${pid}/cmdline`))) {
      throw refused('EBUSY', path)
    }
    rmSync(path, { recursive: true })
  }

  write(file: string, value: string): void {
    const path = dirname(file)
    const name = basename(file)
    if (name === 'cgroup.subtree_control') return this.#enable(path, value.slice(1))
    if (name === 'cgroup.procs') {
      for (const group of [path, dirname(path)]) {
        const at = join(group, name)
        const others = words(at).filter((pid) => pid !== value)
        writeFileSync(at, others.map((pid) => `${pid}\n`).join(''))
      }
      writeFileSync(file, `${readFileSync(file, 'utf8')}${value}\n`)
      return
    }
    const known = VALUES[name]
    if (known !== undefined) {
      if (!words(join(path, 'cgroup.controllers')).includes(known.controller)) {
        throw refused('ENOENT', file)
      }
      if (!known.value.test(value)) throw refused('EINVAL', file)
    }
    writeFileSync(file, value)
  }

  #enable(path: string, controller: string): void {
    if (!words(join(path, 'cgroup.controllers')).includes(controller)) {
      throw refused('ENOENT', controller)
    }
    // A group with processes of its own gives what is limited by whole processes to none below it.
    const isThreaded = readdirSync(path).some((name) => {
      const type = join(path, name, 'cgroup.type')
      return existsSync(type) && words(type)[0] === 'threaded'
    })
    const isFree = words(join(path, 'cgroup.procs')).length === 0
    if (!isFree && !(isThreaded && controller === 'cpu')) throw refused('EBUSY', path)
    const file = join(path, 'cgroup.subtree_control')
    const all = new Set([...words(file), controller])
    writeFileSync(file, [...all].join(' '))
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) {
        writeFileSync(join(path, entry.name, 'cgroup.controllers'), [...all].join(' '))
      }
    }
  }
}
