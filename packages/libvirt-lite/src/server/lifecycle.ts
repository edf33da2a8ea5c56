import type { Duplex } from 'node:stream'
import { openConsole } from '../driver/console.ts'
import type { Domain } from '../driver/domain.ts'
import type { StartOptions } from '../driver/machine.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { AutoDestroy } from './auto-destroy.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { noAgent } from './guest-agent.ts'

/** Flags of `virDomainCreateXML` and `virDomainCreateWithFlags`. */
const START = {
  PAUSED: 1,
  AUTODESTROY: 2,
  BYPASS_CACHE: 4,
  FORCE_BOOT: 8,
  VALIDATE: 16,
  RESET_NVRAM: 32,
} as const
/** How a saved state is read, and whether: there are none. */
const OF_SAVED = START.BYPASS_CACHE | START.FORCE_BOOT
const CREATE = START.PAUSED | START.AUTODESTROY | OF_SAVED | START.RESET_NVRAM
/** Flag of `virDomainDefineXMLFlags`: the document may have no words that no schema has. */
const DEFINE_VALIDATE = 1
const DESTROY_GRACEFUL = 1
/** Flags of `virDomainShutdownFlags` and `virDomainReboot`. */
const BY = { ACPI: 1, AGENT: 2, INITCTL: 4, SIGNAL: 8, PARAVIRT: 16 } as const
/** Flags of `virDomainUndefineFlags`: what else to remove, of which there are only variables of firmware here. */
const UNDEFINE = { NVRAM: 4, KEEP_NVRAM: 8 } as const
const UNDEFINE_FLAGS = 127
const CONSOLE_FLAGS = 3
/** Flags of the monitor command: text of HMP instead of QMP. */
const MONITOR_HMP = 1

/** Changing domains. */
export function lifecycleHandlers({ domains }: ServerContext): Handlers {
  /** Runs an operation on the domain that a call names, one at a time. */
  const on = async (
    dom: DomainRef,
    work: (domain: Domain) => Promise<void> | void,
  ): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(() => work(domain))
  }
  const byAcpi = (dom: DomainRef, flags: number, name: string): void => {
    checkFlags(flags, 31, name)
    if (flags === 0 || (flags & BY.ACPI) !== 0) return
    if (flags === BY.AGENT) throw noAgent(domains.of(dom))
    throw new VirtError(
      ErrorCode.OPERATION_UNSUPPORTED,
      'Operation not supported: only the power button (mode acpi) reaches a guest',
    )
  }
  const autoDestroy = new AutoDestroy()
  const undefine = (dom: DomainRef, variables?: 'remove' | 'keep') =>
    on(dom, (domain) => domains.undefine(domain, variables))
  // Not one at a time: ending a domain is what helps when another operation hangs.
  const destroy = async (dom: DomainRef, graceful: boolean) => domains.of(dom).destroy({ graceful })
  return {
    async DOMAIN_DEFINE_XML({ xml }) {
      return { dom: (await domains.define(xml, { validate: false })).ref }
    },
    async DOMAIN_DEFINE_XML_FLAGS({ xml, flags }) {
      checkFlags(flags, DEFINE_VALIDATE, 'virDomainDefineXMLFlags')
      return { dom: (await domains.define(xml, { validate: flags !== 0 })).ref }
    },
    async CONNECT_DOMAIN_XML_TO_NATIVE({ format, xml, flags }) {
      checkFlags(flags, 0, 'virConnectDomainXMLToNative')
      if (format !== 'qemu-argv') {
        const text = `invalid argument: unsupported config type ${format}`
        throw new VirtError(ErrorCode.INVALID_ARG, text)
      }
      return { config: await domains.commandLine(xml) }
    },
    async DOMAIN_CREATE_XML({ xml, flags }, { connection }) {
      checkFlags(flags, CREATE | START.VALIDATE, 'virDomainCreateXML')
      const validate = (flags & START.VALIDATE) !== 0
      const options = startOptions(flags)
      const domain = await domains.create(xml, { ...options, validate })
      if (options.autoDestroy) autoDestroy.watch(connection, domain)
      return { dom: domain.ref }
    },
    DOMAIN_CREATE: ({ dom }) => on(dom, (domain) => domain.start({ paused: false })),
    async DOMAIN_CREATE_WITH_FLAGS({ dom, flags }, { connection }) {
      checkFlags(flags, CREATE, 'virDomainCreateWithFlags')
      const options = startOptions(flags)
      await on(dom, async (domain) => {
        await domain.start(options)
        if (options.autoDestroy) autoDestroy.watch(connection, domain)
      })
      return { dom: domains.of(dom).ref }
    },
    DOMAIN_SUSPEND: ({ dom }) => on(dom, (domain) => domain.suspend()),
    DOMAIN_RESUME: ({ dom }) => on(dom, (domain) => domain.resume()),
    DOMAIN_SHUTDOWN: ({ dom }) => on(dom, (domain) => domain.shutdown()),
    DOMAIN_SHUTDOWN_FLAGS({ dom, flags }) {
      byAcpi(dom, flags, 'virDomainShutdownFlags')
      return on(dom, (domain) => domain.shutdown())
    },
    DOMAIN_REBOOT({ dom, flags }) {
      byAcpi(dom, flags, 'virDomainReboot')
      return on(dom, (domain) => domain.reboot())
    },
    DOMAIN_RESET({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainReset')
      return on(dom, (domain) => domain.reset())
    },
    DOMAIN_DESTROY: ({ dom }) => destroy(dom, false),
    DOMAIN_DESTROY_FLAGS({ dom, flags }) {
      checkFlags(flags, DESTROY_GRACEFUL, 'virDomainDestroyFlags')
      return destroy(dom, (flags & DESTROY_GRACEFUL) !== 0)
    },
    DOMAIN_UNDEFINE: ({ dom }) => undefine(dom),
    DOMAIN_UNDEFINE_FLAGS({ dom, flags }) {
      checkFlags(flags, UNDEFINE_FLAGS, 'virDomainUndefineFlags')
      const [remove, keep] = [flags & UNDEFINE.NVRAM, flags & UNDEFINE.KEEP_NVRAM]
      if (remove && keep) {
        const text = "invalid argument: 'nvram' and 'keep nvram' flags exclude each other"
        throw new VirtError(ErrorCode.INVALID_ARG, text)
      }
      return undefine(dom, remove ? 'remove' : keep ? 'keep' : undefined)
    },
    DOMAIN_SET_AUTOSTART: ({ dom, autostart }) =>
      on(dom, (domain) => domains.setAutostart(domain, autostart)),
    async DOMAIN_RENAME({ dom, name, flags }) {
      checkFlags(flags, 0, 'virDomainRename')
      if (name === undefined) {
        throw new VirtError(ErrorCode.INVALID_ARG, 'invalid argument: no new name')
      }
      await on(dom, (domain) => domains.rename(domain, name))
      return { result: 0 }
    },
    async DOMAIN_OPEN_CONSOLE({ dom, device, flags }, { stream }) {
      checkFlags(flags, CONSOLE_FLAGS, 'virDomainOpenConsole')
      connect(await openConsole(domains.of(dom), device, flags), stream)
    },
    async MONITOR_COMMAND({ dom, command, flags }) {
      checkFlags(flags, MONITOR_HMP, 'virDomainQemuMonitorCommand')
      const domain = domains.of(dom)
      const { machine } = domain
      domain.isTainted = true
      if ((flags & MONITOR_HMP) !== 0) {
        const args = { 'command-line': command }
        return { result: (await machine.execute('human-monitor-command', args)) as string }
      }
      return { result: JSON.stringify(await machine.converse(parseCommand(command))) }
    },
  }
}

function startOptions(flags: number): StartOptions & { autoDestroy: boolean } {
  return {
    paused: (flags & START.PAUSED) !== 0,
    autoDestroy: (flags & START.AUTODESTROY) !== 0,
    resetNvram: (flags & START.RESET_NVRAM) !== 0,
  }
}

/** Joins a console and a client's stream: when either has ended, so has the other. */
function connect(console: Duplex, stream: Duplex): void {
  // The client went while the console was opened: nobody will hear of its end any more.
  if (stream.destroyed) {
    console.destroy()
    return
  }
  // Ends the stream when the guest is gone.
  console.pipe(stream)
  stream.pipe(console, { end: false })
  stream.once('end', () => stream.end())
  stream.once('close', () => console.destroy())
  console.once('error', (error) => stream.destroy(error))
  console.once('close', () => stream.end())
}

function parseCommand(text: string): Record<string, unknown> {
  let command: unknown
  try {
    command = JSON.parse(text)
  } catch (error) {
    const reason = `cannot parse JSON ${text.slice(0, 80)}: ${(error as Error).message}`
    throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${reason}`, { cause: error })
  }
  if (typeof command !== 'object' || command === null || Array.isArray(command)) {
    throw new VirtError(ErrorCode.INVALID_ARG, 'invalid argument: a monitor command is an object')
  }
  return command as Record<string, unknown>
}
