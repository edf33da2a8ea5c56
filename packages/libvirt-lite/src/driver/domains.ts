import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { removeDurably, writeDurably, writeWhole } from '../daemon/atomic.ts'
import type { StateFolder } from '../daemon/state-folder.ts'
import type { MachineType } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef } from '../rpc/index.ts'
import { Domain, invalid } from './domain.ts'
import type { ControlGroups } from './control-groups/groups.ts'
import type { DomainHost } from './domain-host.ts'
import { bootId, loadStatus } from './machine.ts'
import type { StartOptions } from './machine.ts'
import { commandLine } from './process.ts'
import { settleFirmware, variablesOf } from './settle-firmware.ts'
import { commandOf, formatKept, parseDomain, parseRunning } from './model.ts'
import type { DomainDefinition, DomainFacts } from './model.ts'
import type { Notice } from './notice.ts'
import { Detail, Lifecycle } from './states.ts'

/** Domains that one daemon has. */
const MOST_DOMAINS = 16_384

/** What happens to domains, for whoever wants to know. */
export interface DomainListener {
  lifecycle?(ref: DomainRef, event: number, detail: number): void
  reboot?(ref: DomainRef): void
  notice?(ref: DomainRef, notice: Notice): void
}

export interface DomainsOptions {
  state: StateFolder
  /** Path of the emulator of domains that name none. */
  emulator: string
  /** The machines that it has. */
  machines: readonly MachineType[]
  /** Where limits of domains are kept. */
  groups: ControlGroups
  /** Told of what goes wrong without anybody's asking. */
  warn(message: string): void
}

/** All domains of a daemon: those that are defined, and those that only run. */
export class Domains {
  readonly #options: DomainsOptions
  readonly #byUuid = new Map<string, Domain>()
  readonly #byName = new Map<string, Domain>()
  readonly #listeners = new Set<DomainListener>()
  readonly #host: DomainHost
  #lastId = 0

  constructor(options: DomainsOptions) {
    this.#options = options
    const { state } = options
    this.#host = {
      run: state.run,
      nvram: state.nvram,
      groups: options.groups,
      logFile: (name) => join(state.logs, `${name}.log`),
      nextId: () => ++this.#lastId,
      lifecycle: (domain, event, detail) => {
        const ref = event === Lifecycle.STOPPED ? (domain.lastRef ?? domain.ref) : domain.ref
        for (const listener of this.#listeners) listener.lifecycle?.(ref, event, detail)
      },
      rebooted: ({ ref }) => {
        for (const listener of this.#listeners) listener.reboot?.(ref)
      },
      notice: ({ ref }, notice) => {
        for (const listener of this.#listeners) listener.notice?.(ref, notice)
      },
      warn: options.warn,
      gone: (domain) => this.#remove(domain),
      check: (domain, facts) => this.#checkDisks(domain, facts),
    }
  }

  /** Hears of what happens. @returns stops it */
  listen(listener: DomainListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  all(): Domain[] {
    return [...this.#byUuid.values()]
  }

  /** @throws VirtError `NO_DOMAIN` */
  byUuid(uuid: string, name?: string): Domain {
    const called = name === undefined ? '' : ` (${name})`
    return this.#byUuid.get(uuid) ?? missing(`no domain with matching uuid '${uuid}'${called}`)
  }

  byName(name: string): Domain {
    return this.#byName.get(name) ?? missing(`no domain with matching name '${name}'`)
  }

  byId(id: number): Domain {
    const found = this.all().find((domain) => domain.isActive && domain.id === id)
    return found ?? missing(`no domain with matching id ${id}`)
  }

  /** Finds what a call names: only its UUID counts. */
  of({ uuid, name }: DomainRef): Domain {
    return this.byUuid(uuid, name)
  }

  /** Reads what is kept, and takes over what runs. */
  async load(): Promise<void> {
    const { state, warn } = this.#options
    // Read once: with thousands of definitions it is long.
    const files = new Set(readdirSync(state.domains))
    for (const file of files) {
      if (!file.endsWith('.xml')) continue
      try {
        const definition = this.#parse(readFileSync(join(state.domains, file), 'utf8'))
        const domain = this.#add(definition)
        domain.definition = definition
        domain.autostart = files.has(`${definition.uuid}.autostart`)
      } catch (error) {
        warn(`ignoring ${join(state.domains, file)}: ${(error as Error).message}`)
      }
    }
    const folders = readdirSync(state.run).filter((name) => /^\d+$/.test(name))
    this.#lastId = Math.max(0, ...folders.map(Number))
    await Promise.all(folders.map((name) => this.#attach(join(state.run, name))))
  }

  /** Starts those that are to start with the host, once for each start of the host. */
  async autostart(): Promise<void> {
    const stamp = join(this.#options.state.path, 'autostarted')
    const now = bootId()
    try {
      if (readFileSync(stamp, 'utf8') === now) return
    } catch {
      // Not yet.
    }
    for (const domain of this.all()) {
      if (!domain.autostart || domain.isActive) continue
      try {
        await domain.exclusively(() => domain.start({ paused: false }))
      } catch (error) {
        this.#options.warn(`cannot autostart ${domain.name}: ${(error as Error).message}`)
      }
    }
    try {
      writeWhole(stamp, now)
    } catch (error) {
      this.#options.warn(`cannot note that domains were autostarted: ${(error as Error).message}`)
    }
  }

  /** Defines a domain, or changes what it starts from the next time; with `validate` only by words that are known. */
  async define(xml: string, { validate }: { validate: boolean }): Promise<Domain> {
    const definition = parseDomain(xml, this.modelOptions, validate)
    const known = this.#match(definition)
    const domain = known ?? this.#add(definition)
    try {
      this.#save(definition, known?.definition === undefined)
    } catch (error) {
      if (known === undefined) this.#remove(domain)
      throw saving(error)
    }
    const isNew = domain.definition === undefined
    domain.definition = definition
    domain.isUpdated = domain.isActive
    this.#tell(domain, Lifecycle.DEFINED, isNew ? Detail.DEFINED_ADDED : Detail.DEFINED_UPDATED)
    return domain
  }

  /** Changes what a domain starts from, which has to be complete. Throws with all as it was. */
  change(domain: Domain, definition: DomainDefinition): void {
    // What the next daemon could not read would be lost.
    this.#parse(formatKept(definition))
    try {
      this.#save(definition)
    } catch (error) {
      throw saving(error)
    }
    domain.definition = definition
  }

  /** The command that would start a domain, as a shell takes it. Rejects with `VirtError` */
  async commandLine(xml: string): Promise<string> {
    const folder = join(this.#options.state.run, 'ID')
    const options = { qmpSocket: join(folder, 'qmp.sock'), stateDir: folder, limits: true }
    const { program, args } = await commandOf(
      settleFirmware(this.#parse(xml), this.#options.state.nvram),
      options,
    )
    return commandLine(program, args)
  }

  /** What definitions are completed with here. */
  get modelOptions(): { emulator: string; machines: readonly MachineType[]; stateDir: string } {
    const { emulator, machines, state } = this.#options
    return { emulator, machines, stateDir: state.path }
  }

  /** Starts a domain that is gone when it ends, unless it is defined already. */
  async create(xml: string, options: StartOptions & { validate: boolean }): Promise<Domain> {
    const definition = parseDomain(xml, this.modelOptions, options.validate)
    const known = this.#match(definition)
    if (known?.isActive) throw invalid(`domain '${known.name}' is already active`)
    const domain = known ?? this.#add(definition)
    await domain.exclusively(async () => {
      if (domain.isActive) throw invalid(`domain '${domain.name}' is already active`)
      domain.live = definition
      await domain.start(options)
    })
    return domain
  }

  /** Forgets the definition; a running domain goes on. */
  undefine(domain: Domain, variables?: 'remove' | 'keep'): void {
    if (domain.definition === undefined) throw invalid('cannot undefine transient domain')
    const { domains, nvram } = this.#options.state
    const file = variablesOf(domain.definition, nvram)
    if (variables !== 'keep' && file !== undefined && existsSync(file)) {
      if (variables === undefined) throw invalid('cannot undefine domain with nvram')
      removeDurably(file)
    }
    removeDurably(join(domains, `${domain.uuid}.xml`))
    removeDurably(join(domains, `${domain.uuid}.autostart`))
    domain.definition = undefined
    domain.autostart = false
    this.#tell(domain, Lifecycle.UNDEFINED, Detail.UNDEFINED_REMOVED)
    if (!domain.isActive) this.#remove(domain)
  }

  setAutostart(domain: Domain, autostart: boolean): void {
    if (domain.definition === undefined) throw invalid('cannot set autostart for transient domain')
    const mark = join(this.#options.state.domains, `${domain.uuid}.autostart`)
    try {
      if (autostart) writeDurably(mark, '')
      else removeDurably(mark)
    } catch (error) {
      throw saving(error)
    }
    domain.autostart = autostart
  }

  rename(domain: Domain, name: string): void {
    if (domain.isActive) throw invalid('cannot rename active domain')
    if (domain.definition === undefined) throw invalid('cannot rename a transient domain')
    if (this.#byName.has(name)) {
      throw new VirtError(ErrorCode.DOM_EXIST, `domain with name '${name}' already exists`)
    }
    const renamed = this.#parse(withName(formatKept(domain.definition), name))
    try {
      this.#save(renamed)
    } catch (error) {
      throw saving(error)
    }
    this.#byName.delete(domain.name)
    domain.name = name
    domain.definition = renamed
    this.#byName.set(name, domain)
  }

  /** Lets all emulators go on without this daemon. */
  detach(): void {
    for (const domain of this.all()) domain.detach()
  }

  async #attach(folder: string): Promise<void> {
    const { warn } = this.#options
    const status = loadStatus(folder)
    if (status === undefined) {
      warn(`ignoring ${folder}: it has no status that can be read`)
      return
    }
    try {
      const live = parseRunning(status.xml)
      const known = this.#byUuid.get(live.uuid)
      const domain = known ?? this.#add(live)
      const runs = await domain.attach(folder, status, live)
      if (!runs && !domain.isPersistent) this.#remove(domain)
      // Its client went with the daemon.
      if (runs && status.autoDestroy) await domain.destroy({ graceful: false })
    } catch (error) {
      warn(`cannot take over ${folder}: ${(error as Error).message}`)
    }
  }

  #parse(xml: string): DomainDefinition {
    return parseDomain(xml, this.modelOptions)
  }

  /** The domain that a definition is of. @throws VirtError when name and UUID belong to different ones */
  #match({ name, uuid }: DomainDefinition): Domain | undefined {
    const sameUuid = this.#byUuid.get(uuid)
    const sameName = this.#byName.get(name)
    if (sameUuid !== undefined && sameUuid.name !== name) {
      const text = `domain '${sameUuid.name}' is already defined with uuid ${uuid}`
      throw new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`)
    }
    if (sameName !== undefined && sameName.uuid !== uuid) {
      const text = `domain '${name}' already exists with uuid ${sameName.uuid}`
      throw new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`)
    }
    return sameUuid
  }

  #add({ name, uuid }: DomainDefinition): Domain {
    if (this.#byUuid.size >= MOST_DOMAINS) {
      const text = `operation failed: there are ${MOST_DOMAINS} domains: undefine one`
      throw new VirtError(ErrorCode.OPERATION_FAILED, text)
    }
    const domain = new Domain(this.#host, { name, uuid })
    this.#byUuid.set(uuid, domain)
    this.#byName.set(name, domain)
    return domain
  }

  #remove(domain: Domain): void {
    this.#byUuid.delete(domain.uuid)
    if (this.#byName.get(domain.name) === domain) this.#byName.delete(domain.name)
  }

  #save(definition: DomainDefinition, isNew = false): void {
    const path = join(this.#options.state.domains, `${definition.uuid}.xml`)
    writeDurably(path, formatKept(definition), isNew)
  }

  #tell({ ref }: Domain, event: number, detail: number): void {
    for (const listener of this.#listeners) listener.lifecycle?.(ref, event, detail)
  }

  /** Whether a running domain has an image as one of its disks. */
  usesDisk(path: string): boolean {
    return [...this.all()].some(
      (domain) => domain.isActive && domain.facts.disks.some((disk) => disk.path === path),
    )
  }

  /** Two guests that write to one disk destroy it. */
  #checkDisks(starting: Domain, { disks }: DomainFacts): void {
    for (const domain of this.all()) {
      if (!domain.isActive || domain === starting) continue
      for (const theirs of domain.facts.disks) {
        const ours = disks.find(({ path }) => path !== undefined && path === theirs.path)
        if (ours === undefined) continue
        if ((ours.isReadOnly && theirs.isReadOnly) || (ours.isShareable && theirs.isShareable))
          continue
        throw new VirtError(
          ErrorCode.RESOURCE_BUSY,
          `disk ${ours.target} ('${ours.path}') is disk ${theirs.target} of the running domain '${domain.name}': ` +
            'stop that one, or mark the disk <shareable/> in both if the guests coordinate',
        )
      }
    }
  }
}

/** A formatted definition under another name: its first element is the name. */
function withName(xml: string, name: string): string {
  const escaped = name.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return xml.replace(/<name>[^<]*<\/name>/, () => `<name>${escaped}</name>`)
}

function missing(text: string): never {
  throw new VirtError(ErrorCode.NO_DOMAIN, `Domain not found: ${text}`)
}

function saving(error: unknown): VirtError {
  const text = `cannot save the definition: ${(error as Error).message}`
  return new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
}
