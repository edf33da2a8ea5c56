import { readFileSync } from 'node:fs'

import test from 'ava'

import type { MachineConfig } from '../src/machine/config.ts'
import { withIdentity } from '../src/machine/cpu-identity.ts'
import { commandLine } from './support/command-line.ts'

const leaf = (function_: number, eax: number, edx = 0) => ({
  function: function_,
  index: 0,
  flags: 0,
  eax,
  ebx: 0,
  ecx: 0,
  edx,
})

const { settings } = commandLine('-kernel', 'k')
const { config, refusal } = commandLine('-kernel', 'k', '-nographic')

test('cpu: models and properties beside the feature bits', (t) => {
  const cpu = (text: string): MachineConfig['cpu'] => config('-cpu', text).cpu
  t.deepEqual(cpu('max,vendor=GenuineIntel,+x2apic'), {
    model: 'max',
    features: { x2apic: true },
    vendor: 'GenuineIntel',
  })
  t.deepEqual(cpu('IvyBridge,phys-bits=36,host-phys-bits=off'), {
    model: 'IvyBridge',
    features: {},
    physBits: 36,
  })
  t.is(cpu('max,host-phys-bits')?.physBits, 'host')
  t.deepEqual(cpu('host,migratable=on')?.features, { invtsc: false })
  t.deepEqual(cpu('host,migratable=no')?.features, {})
  t.regex(refusal('-cpu', 'max,hv_passthrough'), /Hyper-V/)
  t.regex(refusal('-cpu', 'max,vendor=Intel'), /vendor/)
  t.regex(refusal('-cpu', 'max,phys-bits=many'), /phys-bits/)
})

test('cpu: another vendor, and other address widths, show in CPUID', (t) => {
  const model = [
    leaf(0, 13),
    leaf(1, 0, 0xffff_ffff),
    leaf(0x8000_0001, 0, 0x2183_f3ff),
    leaf(0x8000_0008, 0x3028),
  ]
  const change = (cpu: object) =>
    withIdentity(model, { model: 'max', features: {}, ...cpu }, () => 46)
  t.like(change({ vendor: 'GenuineIntel' })[0], {
    ebx: 0x756e_6547,
    edx: 0x4965_6e69,
    ecx: 0x6c65_746e,
  })
  t.is(change({ vendor: 'GenuineIntel' })[2]!.edx, 0x2000_0000)
  t.is(change({ vendor: 'AuthenticAMD' })[2]!.edx, 0x2183_f3ff)
  t.is(change({ physBits: 36 })[3]!.eax, 0x3024)
  t.is(change({ physBits: 'host' })[3]!.eax, 0x302e)
  t.deepEqual(change({}), model)
  t.throws(() => change({ physBits: 53 }), { message: /between 36 and 52/ })
  t.throws(() => change({ vendor: 'x' }), { code: 'E_CONFIG' })
})

test('fw_cfg, the timer and displays that are none', (t) => {
  const text = readFileSync(new URL(import.meta.url))
  const path = new URL(import.meta.url).pathname
  const { fwCfg } = config('-fw_cfg', 'opt/a,string=hello', '-fw_cfg', `name=opt/b,file=${path}`)
  t.deepEqual(
    fwCfg?.map(({ name, data }) => [name, data.length]),
    [
      ['opt/a', 5],
      ['opt/b', text.length],
    ],
  )
  for (const [argument, message] of [
    ['string=x', /name is missing/],
    ['etc/x,string=x', /opt\//],
    ['opt/x', /one of/],
    ['opt/x,string=a,file=b', /one of/],
    ['opt/x,file=/nowhere', /can't load/],
    ['opt/x,gen_id=a', /objects/],
    [`opt/${'x'.repeat(60)},string=a`, /too long/],
  ] as const) {
    t.regex(refusal('-fw_cfg', argument), message)
  }
  t.regex(refusal('-fw_cfg', 'opt/a,string=1', '-fw_cfg', 'opt/a,string=2'), /duplicate/)
  const { machine } = config('-M', 'pc,pit=off', '-global', 'kvm-pit.lost_tick_policy=discard')
  t.deepEqual(machine, {
    type: 'pc',
    options: { graphics: false, pit: false, pitLostTicks: 'discard' },
  })
  t.regex(refusal('-global', 'kvm-pit.lost_tick_policy=merge'), /policy/)
  t.regex(refusal('-global', 'pc.x=1'), /no device model 'pc'/)
  t.is(settings('-vnc', 'none', '-serial', 'null').display, 'none')
  t.regex(refusal('-vnc', ':1'), /VNC/)
})
