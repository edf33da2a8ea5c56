import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { VirtError } from '../rpc/index.ts'
import type { Client, DomainRef } from '../rpc/index.ts'

const LIFECYCLE = 0
/** virDomainEventType: what a domain has come to when it does not run any more. */
const ENDS: ReadonlySet<number> = new Set([5, 8])
/** virConnectListAllDomainsFlags. */
const ACTIVE = 1
/** virDomainState. */
const PAUSED = 3
/** virDomainDestroyFlags: the emulator may write what it has. */
const GRACEFUL = 1
/** Longer than this nobody waits for an answer of systemd. */
const ASK_MS = 3000

export interface ShutdownOptions {
  /** Milliseconds that guests have, all at once. */
  timeoutMs: number
  /** Takes what the administrator should know. */
  say(message: string): void
}

/**
 * Has all running domains turn off, as a host does before it goes down: presses their power buttons, waits, and ends those
 * that are left. One that is paused is resumed, or it could not hear the button. Rejects as calls of a client do.
 *
 * @returns the names of those that were left
 */
export async function shutDownDomains(
  client: Client,
  { timeoutMs, say }: ShutdownOptions,
): Promise<string[]> {
  const left = new Map<string, DomainRef>()
  let allEnded: () => void = () => undefined
  const ended = new Promise<void>((resolve) => {
    allEnded = resolve
  })
  const gone = (uuid: string): void => {
    left.delete(uuid)
    if (left.size === 0) allEnded()
  }
  const early = new Set<string>()
  client.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ message: { dom, event } }) => {
    if (!ENDS.has(event)) return
    early.add(dom.uuid)
    gone(dom.uuid)
  })
  // Before anybody is asked for, so that no end is missed.
  const wanted = { event: LIFECYCLE, dom: undefined }
  await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', wanted)
  const list = { needResults: 1, flags: ACTIVE }
  const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', list)
  for (const dom of domains) if (!early.has(dom.uuid)) left.set(dom.uuid, dom)
  await Promise.all([...left.values()].map((dom) => pressButton(client, dom, say)))
  if (left.size > 0) {
    let timer: NodeJS.Timeout | undefined
    const tooLong = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs)
    })
    await Promise.race([ended, tooLong, client.ended])
    clearTimeout(timer)
  }
  const rest = [...left.values()]
  await Promise.all(
    rest.map(async (dom) => {
      say(`'${dom.name}' has not turned off within ${timeoutMs / 1000} s, and is ended`)
      await ignoringRefusal(client.call('DOMAIN_DESTROY_FLAGS', { dom, flags: GRACEFUL }))
    }),
  )
  return rest.map(({ name }) => name)
}

async function pressButton(
  client: Client,
  dom: DomainRef,
  say: ShutdownOptions['say'],
): Promise<void> {
  try {
    const { state } = await client.call('DOMAIN_GET_STATE', { dom, flags: 0 })
    if (state === PAUSED) await client.call('DOMAIN_RESUME', { dom })
    await client.call('DOMAIN_SHUTDOWN', { dom })
  } catch (error) {
    if (!(error instanceof VirtError)) throw error
    // It may have ended meanwhile; otherwise it is one of those that are left.
    say(`'${dom.name}' cannot be told to turn off: ${error.message}`)
  }
}

async function ignoringRefusal(call: Promise<unknown>): Promise<void> {
  await call.catch((error: unknown) => {
    if (!(error instanceof VirtError)) throw error
  })
}

/** Whether the host, or the session of its user, is going down: systemd is asked, where there is one. */
export async function isHostStopping(): Promise<boolean> {
  const questions = [['is-system-running'], ['--user', 'is-system-running']]
  const answers = await Promise.all(
    questions.map(async (args) => {
      try {
        // It ends with 1 for everything but `running`.
        const { stdout } = await promisify(execFile)('systemctl', args, { timeout: ASK_MS })
        return stdout
      } catch (error) {
        return String((error as { stdout?: string }).stdout ?? '')
      }
    }),
  )
  return answers.some((answer) => answer.trim() === 'stopping')
}
