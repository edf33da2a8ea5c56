// What a running domain is shown as, on both daemons: documents of the corpus, as far as both can start them on QEMU.
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { XmlError, formatDomain, parseDomain } from '../src/domain/index.ts'
import type { DomainDefinition } from '../src/domain/index.ts'
import { bothSides } from './support/both-sides.ts'
import type { Side } from './support/both-sides.ts'
import { virsh, without } from './support/clients.ts'
import type { Outcome } from './support/clients.ts'
import { documents } from './support/documents.ts'
import { missing, qemu, qemuMachines } from './support/libvirtd.ts'

const folder = new URL('corpus/', import.meta.url)
/** All of them take some minutes. */
const MOST = process.env['LONG'] === undefined ? 6 : Infinity
const BUSES = new Set(['virtio', 'sata', 'ide', 'fdc'])
const CARDS = new Set(['virtio', 'e1000', 'e1000e', 'rtl8139'])
const PORTS = new Set(['pty', 'null'])
const CONTROLLERS = new Set(['pci', 'usb', 'sata', 'ide', 'fdc', 'virtio-serial'])

/**
 * Leaves out what this host or this daemon has not: screens, other networks, KVM, processors as of the host. Its name is
 * short, as libvirt has it in paths of sockets.
 */
function startable(def: DomainDefinition, name: string): DomainDefinition {
  const { devices = {} } = def
  const { controllers, memballoon, rngs, panics, watchdogs } = devices
  const pty = <T extends { type?: string }>(all: readonly T[] | undefined): T[] =>
    (all ?? []).filter(({ type }) => PORTS.has(type ?? 'pty'))
  const serials = pty(devices.serials).filter(
    ({ target }) => (target?.type ?? 'isa-serial') === 'isa-serial',
  )
  const { os, features } = def
  return {
    type: 'qemu',
    name,
    ...(def.title === undefined ? {} : { title: def.title }),
    memory: { unit: 'KiB', value: 65_536 },
    vcpu: { value: def.vcpu?.value ?? 1, ...(def.vcpu?.current && { current: def.vcpu.current }) },
    os: { ...(os?.type && { type: os.type }), boots: os?.boots ?? [] },
    features: {
      acpi: true,
      ...(features?.hyperv && { hyperv: features.hyperv }),
      ...(features?.apic && { apic: features.apic }),
    },
    ...(def.clock && def.clock.offset !== 'variable' ? { clock: def.clock } : {}),
    ...(def.onCrash && { onCrash: def.onCrash }),
    ...(def.pm && { pm: def.pm }),
    devices: {
      emulator: qemu,
      controllers: (controllers ?? []).filter(
        ({ type, master }) => CONTROLLERS.has(type) && master === undefined,
      ),
      ...(memballoon && { memballoon }),
      ...(rngs && { rngs }),
      ...(panics && { panics }),
      ...(watchdogs && { watchdogs }),
      disks: (devices.disks ?? []).filter(
        ({ type, target }) =>
          (type === 'file' || type === 'block') && BUSES.has(target?.bus ?? 'virtio'),
      ),
      interfaces: (devices.interfaces ?? []).map(({ mac, model, address }) => ({
        type: 'user' as const,
        ...(mac && { mac }),
        ...(model?.type && CARDS.has(model.type) ? { model: { type: model.type } } : {}),
        ...(address && { address }),
      })),
      serials,
      consoles: serials.length > 0 ? pty(devices.consoles) : [],
      channels: (devices.channels ?? []).filter(({ type }) => type === 'unix' || type === 'pty'),
    },
  }
}

/** The document for one side, with images of its own. */
function documentFor(def: DomainDefinition, { at }: Side): string {
  const own = structuredClone(def)
  for (const [index, disk] of (own.devices?.disks ?? []).entries()) {
    if (disk.source?.file === undefined && disk.source?.dev === undefined) continue
    const file = join(at, 'images', `${def.name}-${index}.img`)
    writeFileSync(file, Buffer.alloc(disk.device === 'floppy' ? 1_474_560 : 1 << 20))
    chmodSync(file, 0o666)
    disk.type = 'file'
    disk.source = { file }
    disk.driver = { ...disk.driver, type: 'raw' }
  }
  const file = join(at, 'domain.xml')
  writeFileSync(file, formatDomain(own))
  chmodSync(file, 0o644)
  return file
}

/** What is chosen at random, or is a terminal here and a socket there. */
function masked(text: string, { at }: Side): string {
  return text
    .replaceAll(at, 'DIR')
    .replaceAll(/ id='\d+'/g, '')
    .replaceAll(/<uuid>.*<\/uuid>/g, '<uuid/>')
    .replaceAll(/ *<source path='\/dev\/pts\/\d+'\/>\n/g, '')
    .replaceAll(/ tty='\/dev\/pts\/\d+'/g, '')
    .replaceAll(/<source mode='bind' path='[^']*'\/>/g, '<source/>')
}

test('running domains are shown as libvirtd shows them', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  t.timeout(900_000)
  const sides = await bothSides(t)
  for (const { at } of sides) {
    mkdirSync(join(at, 'images'))
    chmodSync(join(at, 'images'), 0o777)
  }
  const corpus = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'))
  const machines = qemuMachines()
  const refused: string[] = []
  let compared = 0
  const all = [...documents(220).map((made) => made.xml), ...corpus].slice(0, MOST)
  for (const [index, xml] of all.entries()) {
    let def: DomainDefinition
    try {
      const whole = parseDomain(xml, { emulator: qemu, machines, stateDir: '/var/lib' })
      def = startable(whole, `d${index}`)
    } catch (error) {
      // Some are there to be refused.
      if (error instanceof XmlError) continue
      throw error
    }
    const shown: Outcome[] = []
    for (const side of sides) {
      const run = (...args: string[]): Promise<Outcome> =>
        side.libvirtd === undefined ? virsh(side.socket, ...args) : side.libvirtd.outcome(args)
      const made = await run('create', documentFor(def, side), '--paused')
      if (made.code !== 0) {
        shown.push(made)
        continue
      }
      const { code, output } = await run('dumpxml', def.name, '--security-info')
      await run('destroy', def.name)
      shown.push({ code, output: masked(output, side) })
    }
    const [ours, theirs] = shown as [Outcome, Outcome]
    if (ours.code !== 0 && theirs.code !== 0) refused.push(`${def.name}: ${theirs.output.trim()}`)
    else {
      t.is(ours.output, theirs.output, `${def.name}: ${xml.slice(0, 400)}`)
      compared++
    }
  }
  t.log(`${compared} compared, ${refused.length} refused by both`)
  for (const text of refused) t.log(text)
  t.true(refused.length < compared)
})
