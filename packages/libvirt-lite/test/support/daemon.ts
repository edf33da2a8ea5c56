import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { Daemon } from '../../src/daemon/daemon.ts'
import type { DaemonOptions } from '../../src/daemon/daemon.ts'
import { ControlGroups } from '../../src/driver/control-groups/groups.ts'
import { Client } from '../../src/rpc/index.ts'
import type { ClientOptions, DomainRef } from '../../src/rpc/index.ts'

/** A folder that is gone after the test. */
export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'lite-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface TestDaemon {
  readonly state: string
  readonly socket: string
  readonly log: string[]
  readonly daemon: Daemon
  client(options?: ClientOptions & { suffix?: string }): Promise<Client>
}

/** A daemon on a folder; whatever runs at the end of the test is ended. */
export async function startDaemon(
  t: ExecutionContext,
  at: string = folder(t),
  options: Partial<DaemonOptions> = {},
): Promise<TestDaemon> {
  const socket = join(at, 's')
  const log: string[] = []
  const state = join(at, 'state')
  const daemon = await Daemon.start({
    stateDir: state,
    socket,
    log: (text) => log.push(text),
    // Tests leave the host's alone.
    groups: ControlGroups.open(false),
    ...options,
  })
  t.teardown(async () => {
    const client = await Client.open({ path: socket }).catch(() => undefined)
    if (client !== undefined) {
      const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', {
        needResults: 1,
        flags: 1,
      })
      await Promise.all(domains.map((dom) => client.call('DOMAIN_DESTROY', { dom })))
    }
    await daemon.stop()
  })
  return {
    state,
    socket,
    log,
    daemon,
    client: async ({ suffix = '', ...rest } = {}) => {
      const client = await Client.open({ path: socket + suffix }, rest)
      t.teardown(() => client.destroy())
      return client
    },
  }
}

export interface DomainParts {
  uuid?: string
  emulator?: string
  devices?: string
  os?: string
  more?: string
}

/** A domain of 64 MiB, with ACPI unless `more` says what features it has, that starts no guest, only its firmware. */
export function domainXml(
  name: string,
  { uuid, emulator, devices = '', os = '', more = '' }: DomainParts = {},
): string {
  return `<domain type='qemu'>
  <name>${name}</name>
  ${uuid === undefined ? '' : `<uuid>${uuid}</uuid>`}
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>${os}</os>
  ${more.includes('<features') ? '' : '<features><acpi/></features>'}${more}
  <devices>
    ${emulator === undefined ? '' : `<emulator>${emulator}</emulator>`}
    <serial type='pty'/>
    ${devices}
  </devices>
</domain>`
}

export async function define(client: Client, xml: string): Promise<DomainRef> {
  return (await client.call('DOMAIN_DEFINE_XML', { xml })).dom
}

/** Waits until something is so. */
export async function until(
  what: () => boolean | Promise<boolean>,
  seconds: number = 30,
): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!(await what())) {
    if (performance.now() > end) throw new Error(`not so after ${seconds} s`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export async function stateOf(client: Client, dom: DomainRef): Promise<[number, number]> {
  const { state, reason } = await client.call('DOMAIN_GET_STATE', { dom, flags: 0 })
  return [state, reason]
}
