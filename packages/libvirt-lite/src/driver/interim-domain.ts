import { randomBytes, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { SaxesParser } from 'saxes'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { ArgvOptions, DomainFacts, FormatOptions } from './model.ts'

/** An element: enough of XML for what a driver asks. */
export interface Tree {
  name: string
  attributes: Record<string, string>
  children: (Tree | string)[]
}

export interface DomainDefinition {
  name: string
  uuid: string
  tree: Tree
}

const fail = (text: string, code: number = ErrorCode.XML_ERROR): never => {
  throw new VirtError(code, text)
}

export function parseTree(xml: string): Tree {
  const parser = new SaxesParser({ position: true })
  const open: Tree[] = []
  let root: Tree | undefined
  parser.on('doctype', () => fail('a document type (<!DOCTYPE>) is not allowed'))
  parser.on('error', (error) => fail(`(line ${parser.line}): ${error.message}`))
  parser.on('opentag', ({ name, attributes }) => {
    const tree = { name, attributes: attributes as Record<string, string>, children: [] }
    open.at(-1)?.children.push(tree)
    root ??= tree
    open.push(tree)
  })
  parser.on('text', (text) => open.at(-1)?.children.push(text))
  parser.on('cdata', (text) => open.at(-1)?.children.push(text))
  parser.on('closetag', () => open.pop())
  parser.write(xml).close()
  return root ?? fail('an empty document')
}

export const elements = (tree: Tree | undefined, name?: string): Tree[] =>
  (tree?.children ?? []).filter(
    (child): child is Tree =>
      typeof child !== 'string' && (name === undefined || child.name === name),
  )
export const first = (tree: Tree | undefined, ...path: string[]): Tree | undefined =>
  path.reduce<Tree | undefined>((at, name) => elements(at, name)[0], tree)
export const textOf = (tree: Tree | undefined): string | undefined =>
  tree?.children
    .filter((child) => typeof child === 'string')
    .join('')
    .trim()

const escape = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll("'", '&apos;')

export function printTree({ name, attributes, children }: Tree, indent: string = ''): string {
  const opening = `${indent}<${name}${Object.entries(attributes)
    .map(([key, value]) => ` ${key}='${escape(value)}'`)
    .join('')}`
  const inner = elements({ name, attributes, children })
  if (inner.length > 0) {
    const lines = inner.map((child) => printTree(child, `${indent}  `)).join('')
    return `${opening}>\n${lines}${indent}</${name}>\n`
  }
  const text = children.join('')
  return text === '' ? `${opening}/>\n` : `${opening}>${escape(text)}</${name}>\n`
}

const make = (name: string, text: string): Tree => ({ name, attributes: {}, children: [text] })

export function parseDomain(xml: string, { emulator }: { emulator: string }): DomainDefinition {
  const tree = parseTree(xml)
  if (tree.name !== 'domain') fail(`unexpected root element <${tree.name}>, expecting <domain>`)
  const name = textOf(first(tree, 'name')) || fail('missing domain name')
  if (/[/\n]/.test(name)) fail(`the name '${name}' has a '/' or a line end`)
  if (!['qemu', 'kvm'].includes(tree.attributes['type'] ?? '')) {
    fail(
      `unexpected domain type '${tree.attributes['type']}', expecting qemu or kvm`,
      ErrorCode.CONFIG_UNSUPPORTED,
    )
  }
  delete tree.attributes['id']
  if (first(tree, 'memory') === undefined) fail('missing element /domain/memory')
  let uuid = textOf(first(tree, 'uuid'))
  if (uuid === undefined) {
    uuid = randomUUID()
    tree.children.splice(2, 0, make('uuid', uuid))
  }
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid)) fail(`malformed uuid '${uuid}'`)
  let devices = first(tree, 'devices')
  if (devices === undefined) {
    devices = { name: 'devices', attributes: {}, children: [] }
    tree.children.push(devices)
  }
  if (first(devices, 'emulator') === undefined) devices.children.unshift(make('emulator', emulator))
  for (const card of elements(devices, 'interface')) {
    if (first(card, 'mac') !== undefined) continue
    const address = `52:54:00:${[...randomBytes(3)].map((b) => b.toString(16).padStart(2, '0')).join(':')}`
    card.children.unshift({ name: 'mac', attributes: { address }, children: [] })
  }
  return { name, uuid: uuid.toLowerCase(), tree }
}

export function formatDomain(def: DomainDefinition, { live }: FormatOptions): string {
  const { type, ...rest } = def.tree.attributes
  const id = live === undefined ? {} : { id: `${live.id}` }
  return printTree({ ...def.tree, attributes: { type: type ?? 'qemu', ...id, ...rest } })
}

const UNITS: Record<string, number> = {
  b: 1,
  bytes: 1,
  k: 1024,
  kib: 1024,
  m: 2 ** 20,
  mib: 2 ** 20,
  g: 2 ** 30,
  gib: 2 ** 30,
  kb: 1000,
  mb: 1e6,
  gb: 1e9,
}

function kib(tree: Tree | undefined): number | undefined {
  if (tree === undefined) return undefined
  return Math.ceil(
    (Number(textOf(tree)) * (UNITS[(tree.attributes['unit'] ?? 'KiB').toLowerCase()] ?? 1024)) /
      1024,
  )
}

export function factsOf({ tree, name, uuid }: DomainDefinition): DomainFacts {
  const devices = first(tree, 'devices')
  const memory = kib(first(tree, 'memory')) ?? 0
  const vcpus = Number(textOf(first(tree, 'vcpu')) ?? 1)
  return {
    name,
    uuid,
    title: textOf(first(tree, 'title')),
    description: textOf(first(tree, 'description')),
    memoryKib: memory,
    currentMemoryKib: kib(first(tree, 'currentMemory')) ?? memory,
    maxVcpus: vcpus,
    vcpus: Number(first(tree, 'vcpu')?.attributes['current'] ?? vcpus),
    osType: textOf(first(tree, 'os', 'type')) ?? 'hvm',
    onPoweroff: textOf(first(tree, 'on_poweroff')) ?? 'destroy',
    onReboot: textOf(first(tree, 'on_reboot')) ?? 'restart',
    onCrash: textOf(first(tree, 'on_crash')) ?? 'destroy',
    emulator: textOf(first(devices, 'emulator')),
    disks: elements(devices, 'disk').map((disk) => ({
      target: first(disk, 'target')?.attributes['dev'] ?? '',
      path: first(disk, 'source')?.attributes['file'],
      isReadOnly: first(disk, 'readonly') !== undefined,
      isShareable: first(disk, 'shareable') !== undefined,
    })),
    interfaces: elements(devices, 'interface').map((card) => ({
      mac: first(card, 'mac')?.attributes['address'] ?? '',
      target: first(card, 'target')?.attributes['dev'],
      network: first(card, 'source')?.attributes['network'],
    })),
    hasCharacterDevice: elements(devices).some(
      ({ name }) => name === 'serial' || name === 'console',
    ),
  }
}

export function domainArgv(
  def: DomainDefinition,
  options: ArgvOptions,
): { program: string; args: string[] } {
  const { tree, name, uuid } = def
  const facts = factsOf(def)
  const devices = first(tree, 'devices')
  const args = [
    '-name',
    `guest=${name}`,
    '-S',
    '-uuid',
    uuid,
    '-no-user-config',
    '-nodefaults',
    '-display',
    'none',
  ]
  const accel = tree.attributes['type'] === 'kvm' ? 'kvm' : 'tcg'
  args.push(
    '-machine',
    `${first(tree, 'os', 'type')?.attributes['machine'] ?? 'pc'},accel=${accel}`,
  )
  args.push(
    '-m',
    `${Math.ceil(facts.memoryKib / 1024)}`,
    '-smp',
    `${facts.maxVcpus}`,
    '-no-shutdown',
  )
  args.push(
    '-chardev',
    `socket,id=charmonitor,path=${options.qmpSocket},server=on,wait=off`,
    '-mon',
    'chardev=charmonitor,id=monitor,mode=control',
  )
  for (const [element, option] of [
    ['kernel', '-kernel'],
    ['initrd', '-initrd'],
    ['cmdline', '-append'],
  ]) {
    const value = textOf(first(tree, 'os', element!))
    if (value !== undefined) args.push(option!, value)
  }
  elements(devices, 'disk').forEach((disk, index) => {
    const file = first(disk, 'source')?.attributes['file']
    if (file === undefined) return
    const format = first(disk, 'driver')?.attributes['type'] ?? 'raw'
    const readOnly = first(disk, 'readonly') === undefined ? '' : ',readonly=on'
    args.push(
      '-drive',
      `file=${file.replaceAll(',', ',,')},format=${format},if=none,id=drive${index}${readOnly}`,
    )
    args.push('-device', `virtio-blk-pci,drive=drive${index},id=virtio-disk${index}`)
  })
  const serials =
    elements(devices, 'serial').length || (elements(devices, 'console').length > 0 ? 1 : 0)
  for (let i = 0; i < serials; i++) {
    args.push(
      '-chardev',
      `socket,id=charserial${i},path=${join(options.stateDir, `serial${i}.sock`)},server=on,wait=off`,
    )
    args.push('-serial', `chardev:charserial${i}`)
  }
  elements(devices, 'interface').forEach((card, index) => {
    const mac = first(card, 'mac')?.attributes['address']
    args.push(
      '-netdev',
      `user,id=hostnet${index}`,
      '-device',
      `virtio-net-pci,netdev=hostnet${index},id=net${index},mac=${mac}`,
    )
  })
  return { program: facts.emulator!, args }
}
