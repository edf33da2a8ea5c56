// A domain as options of a machine, and back: nothing is lost on the way.
import { readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import { XmlError, formatDomain, fromMachine, parseDomain, toMachine } from '../src/domain/index.ts'
import type { DomainDefinition } from '../src/domain/index.ts'
import { documents } from './support/documents.ts'

const folder = new URL('corpus/', import.meta.url)
const corpus = readdirSync(folder)
  .filter((file) => file.endsWith('.xml') && !file.startsWith('refused'))
  .map((file) => ({ name: file, xml: readFileSync(new URL(file, folder), 'utf8') }))
const all = [...corpus, ...documents(220)].map(({ name, xml }) => ({
  name,
  // Of QEMU's machines there are the newest.
  xml: xml.replaceAll(/\bpc-(i440fx|q35)-\d+\.\d+/g, (_, board) =>
    board === 'q35' ? board : 'pc',
  ),
}))

/** Options that are the arguments themselves: none of them can be lost. */
const read = (args: readonly string[]): { args: readonly string[] } => ({ args: [...args] })

/** Follows a refusal: removes the part that it names. False where that is no part of this kind. */
function removeRefused(def: DomainDefinition, message: string): boolean {
  const [, element = '', index = '1'] = /\/domain\/devices\/(\w+)(?:\[(\d+)\])?/.exec(message) ?? []
  // Others may be behind a controller.
  if (element === 'controller') return false
  const devices = def.devices as Record<string, unknown> | undefined
  for (const key of [`${element}s`, element]) {
    const value = devices?.[key]
    if (Array.isArray(value)) return value.splice(Number(index) - 1, 1).length > 0
    if (value !== undefined) return delete devices![key]
  }
  const parts = { on_crash: 'onCrash', iothreads: 'iothreads', cpu: 'cpu', os: 'os' } as const
  const name = /^unsupported: \/domain\/(\w+)/.exec(message)?.[1] ?? ''
  const key = parts[name as keyof typeof parts]
  return key !== undefined && def[key] !== undefined && delete def[key]
}

/** Some cannot even be defined. */
function definition(xml: string): DomainDefinition | undefined {
  try {
    return parseDomain(xml)
  } catch (error) {
    if (error instanceof XmlError) return undefined
    throw error
  }
}

test('documents become options and documents again, or are refused with what cannot be', (t) => {
  let made = 0
  for (const { name, xml } of all) {
    let def = definition(xml)
    for (let tries = 0; def !== undefined && tries < 20; tries++) {
      const document = formatDomain(def, { secure: true })
      try {
        const machine = toMachine(def, read)
        const back = fromMachine(machine, read)
        t.is(formatDomain(back, { secure: true }), document, name)
        t.deepEqual(toMachine(document, read).options, machine.options, name)
        made++
        break
      } catch (error) {
        if (!(error instanceof XmlError)) throw error
        t.is(error.libvirtCode, 67, `${name}: ${error.message}`)
        t.regex(error.message, /^unsupported: \/domain\//, name)
        t.is(formatDomain(def, { secure: true }), document, `${name} was changed`)
        if (!removeRefused(def, error.message)) break
        def = definition(formatDomain(def, { secure: true }))
      }
    }
  }
  t.true(made > 60, `${made} documents became machines`)
})

const small = `<domain type='qemu'><name>small</name><title>A title</title>
  <memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type machine='q35'>hvm</type><kernel>/k</kernel></os>
  <devices><emulator>/usr/bin/qemu-kvm</emulator><serial type='pty'/>
  <disk type='file'><driver name='qemu' type='qcow2'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>
  </devices></domain>`

test('what takes a daemon, or is about the process, is refused by its path', (t) => {
  const cases: [string | RegExp, string, RegExp][] = [
    ['<os>', '<on_crash>restart</on_crash><os>', /^unsupported: \/domain\/on_crash: "restart"/],
    ['<os>', '<on_reboot>preserve</on_reboot><os>', /\/domain\/on_reboot: "preserve"/],
    ['<os>', '<on_poweroff>restart</on_poweroff><os>', /\/domain\/on_poweroff: "restart"/],
    ['<os>', "<clock offset='timezone' timezone='Asia/Tokyo'/><os>", /\/domain\/clock\/@timezone/],
    [
      '</devices>',
      "<interface type='user'><link state='down'/></interface></devices>",
      /link\/@state/,
    ],
    ['</devices>', "<graphics type='vnc'/></devices>", /graphics\[1\]/],
  ]
  for (const [place, text, message] of cases) {
    const xml = small.replace(place, text)
    t.throws(() => toMachine(xml, read), { instanceOf: XmlError, message }, text)
  }
  const fails = (): never => {
    throw new Error('-foo: invalid option')
  }
  t.throws(() => toMachine(small, fails), {
    instanceOf: XmlError,
    message: 'unsupported: -foo: invalid option',
  })
})

test('what a guest that is less than its memory lacks is told', (t) => {
  const xml = small.replace('<vcpu>', "<currentMemory unit='MiB'>32</currentMemory><vcpu>")
  t.regex(toMachine(xml, read).warnings.join('\n'), /\/domain\/currentMemory/)
  t.notRegex(toMachine(small, read).warnings.join('\n'), /currentMemory/)
})
