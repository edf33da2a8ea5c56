import { readFileSync } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'
import { CliError } from '../src/cli/cli-error.ts'
import { planChardevs } from '../src/cli/char-plan.ts'
import { helpPages, helpText } from '../src/cli/help.ts'
import { formatKeyval, parseBool, parseKeyval } from '../src/cli/keyval.ts'
import { machineConfig } from '../src/cli/machine-config.ts'
import { parseCommand } from '../src/cli/parse.ts'
import { ABSENT_OPTIONS } from '../src/cli/qemu-options.ts'
import { OPTIONS, OPTION_GROUPS } from '../src/cli/registry.ts'
import { formatSize, parseSize } from '../src/cli/size.ts'
import { editDistance, nearest } from '../src/cli/suggest.ts'
import { commandLine } from './support/command-line.ts'

const BOOT = ['-kernel', 'k', '-nographic']
const { settings } = commandLine(...BOOT)
const { refusal } = commandLine()

const key = fc.stringMatching(/^[a-z][a-z0-9._-]{0,8}$/)
const value = fc.string({ maxLength: 12 })

test('keyval: entries survive being written and read', (t) => {
  fc.assert(
    fc.property(fc.array(fc.record({ key, value }), { minLength: 1 }), (entries) => {
      t.deepEqual(parseKeyval(formatKeyval(entries)), entries)
    }),
  )
})

test('keyval: implied keys, escapes, flags', (t) => {
  const keys = ['size', 'flag', 'other', 'node']
  const parse = (text: string): [string, string][] =>
    parseKeyval(text, { implied: 'size', keys }).map((entry) => [entry.key, entry.value])
  t.deepEqual(parse('1,,2,flag,noother,node'), [
    ['size', '1,2'],
    ['flag', 'on'],
    ['other', 'off'],
    ['node', 'on'],
  ])
  t.deepEqual(parse(''), [])
  t.deepEqual(parse('flag=a=b'), [['flag', 'a=b']])
  t.deepEqual(parse('size=x,'), [['size', 'x']])
  t.throws(() => parse('=x'), { instanceOf: CliError, message: /key is missing/ })
  t.throws(() => parse('1,sise=2'), { message: "Invalid parameter 'sise' (did you mean 'size'?)" })
  t.throws(() => parse('1,constructor=2'), { instanceOf: CliError })
  t.true(parseBool('yes', 'x'))
  t.false(parseBool('off', 'x'))
  t.throws(() => parseBool('maybe', 'x'), { instanceOf: CliError })
})

test('sizes', (t) => {
  t.is(parseSize('512', 'M', 'size'), 512 * 2 ** 20)
  t.is(parseSize('512', 'B', 'size'), 512)
  t.is(parseSize('1.5G', 'M', 'size'), 1.5 * 2 ** 30)
  t.is(parseSize('4k', 'M', 'size'), 4096)
  t.is(parseSize('0x10', 'M', 'size'), 16 * 2 ** 20)
  t.is(parseSize('0x10B', 'M', 'size'), 0x10b * 2 ** 20)
  for (const bad of ['', 'abc', '-5', '4x', '4 G', '1e3', '.', 'NaN', 'Infinity', '99999999999G']) {
    t.throws(() => parseSize(bad, 'M', 'size'), { instanceOf: CliError }, bad)
  }
  t.is(formatSize(1536 * 2 ** 20), '1536 MiB')
  t.is(formatSize(0), '0 bytes')
})

test('nearest words', (t) => {
  t.is(editDistance('kitten', 'sitting'), 3)
  t.is(editDistance('ab', 'ba'), 1)
  t.is(nearest('kernal', ['kernel', 'initrd']), 'kernel')
  t.is(nearest('kern', ['kernel', 'initrd']), 'kernel')
  t.is(nearest('zzz', ['kernel', 'initrd']), undefined)
  t.is(nearest('x', ['m', 'd']), undefined)
  t.is(nearest('a'.repeat(100_000), ['kernel']), undefined)
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      const distance = editDistance(a, b)
      t.is(distance, editDistance(b, a))
      t.is(distance === 0, a === b)
    }),
  )
})

test('defaults are those of QEMU', (t) => {
  const got = settings()
  t.is(
    machineConfig(got, { serials: [], parallels: [], devices: {} }, () => {}).memory,
    128 * 2 ** 20,
  )
  t.deepEqual(got.cpu, { model: 'qemu64', features: {} })
  t.true(got.reboot)
  t.true(got.shutdown)
})

test('options take effect, with one dash or two', (t) => {
  t.is(settings('--m', '1G').memoryBytes, 2 ** 30)
  t.is(settings('-m', 'size=4097K').memoryBytes, 4100 * 1024, 'whole pages')
  t.deepEqual(settings('-cpu', 'max,+avx2,-smap,sse4_1=off,+x,-x').cpu, {
    model: 'max',
    features: { avx2: true, smap: false, 'sse4-1': false, x: false },
  })
  t.deepEqual(settings('-M', 'pc,accel=kvm:tcg').accelerators, ['kvm', 'tcg'])
  t.deepEqual(settings('-accel', 'tcg', '-enable-kvm').accelerators, ['tcg', 'kvm'])
  const tcg = settings('-accel', 'kvm', '-accel', 'tcg,tb-size=4', '-perfmap')
  t.deepEqual(tcg.tcg, { codeBytes: 4 << 20, perfMap: true })
  const machine = machineConfig(tcg, { serials: [], parallels: [], devices: {} }, () => {})
  t.deepEqual([machine.accel, machine.tcg], ['kvm:tcg', tcg.tcg])
  const alone = settings('-accel', 'kvm', '-perfmap')
  const refused = { instanceOf: CliError, message: /-perfmap needs '-accel tcg'/ }
  t.throws(
    () => machineConfig(alone, { serials: [], parallels: [], devices: {} }, () => {}),
    refused,
  )
  t.is(settings('-append', 'console=ttyS0,,x a=b').append, 'console=ttyS0,,x a=b')
  t.is(settings('-name', 'guest=a,,b,process=p').name, 'a,b')
  const uuid = 'ABCDEF00-1111-2222-3333-444455556666'
  t.is(settings('-uuid', uuid).uuid, uuid.toLowerCase())
  t.false(settings('-no-reboot').reboot)
  t.false(settings('-no-shutdown').shutdown)
  t.true(settings('-S').startPaused)
})

test('texts instead of a machine', (t) => {
  for (const argv of [
    ['-help'],
    ['-h'],
    ['--version'],
    ['-cpu', 'help'],
    ['-M', '?'],
    ['-d', 'help'],
  ]) {
    t.is(parseCommand(argv).kind, 'print', argv.join(' '))
  }
  const help = helpText(OPTION_GROUPS)
  for (const name of OPTIONS.keys()) t.true(help.includes(`-${name}`), name)
  for (const name of OPTIONS.keys()) t.false(ABSENT_OPTIONS.has(name), name)
})

test('the reference of the command line is up to date', (t) => {
  for (const [name, text] of helpPages(OPTION_GROUPS)) {
    t.is(readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8'), text)
  }
})

test('wrong command lines are refused with the nearest right one', (t) => {
  const cases: [string[], RegExp][] = [
    [['-kernal', 'x'], /^-kernal: invalid option \(did you mean '-kernel'\?\)$/],
    [['-foo'], /^-foo: invalid option/],
    [['--'], /^--: invalid option$/],
    [['-'], /^-: invalid option$/],
    [['---m', '1'], /invalid option/],
    [['-m=512'], /did you mean '-m 512'/],
    [['-usb'], /^-usb: there is no USB controller yet; leave it out/],
    [['-numa', 'node'], /^-numa: this option of QEMU's is not supported yet$/],
    [['-m'], /^-m: requires an argument$/],
    [['-m', ''], /^-m : Parameter 'size' is missing$/],
    [['-m', '0'], /^-m 0: invalid RAM size/],
    [['-m', 'abc'], /^-m abc: Parameter 'size' expects/],
    [['-m', '128,foo=3'], /^-m 128,foo=3: Invalid parameter 'foo' \(valid: size\)$/],
    [['-m', '128,slots=2'], /Parameter 'slots' is not supported: memory cannot be added/],
    [['-cpu', 'mac'], /^-cpu mac: unable to find CPU model 'mac' \(did you mean 'max'\?\)$/],
    [['-cpu', 'max,avx2=maybe'], /expects 'on' or 'off'/],
    [['-cpu', 'max,+'], /is not the name of a processor feature/],
    [['-accel', 'tcgg'], /invalid accelerator 'tcgg' \(did you mean 'tcg'\?\)/],
    [['-accel', 'kvm,tb-size=4'], /Property 'kvm-accel.tb-size' not found/],
    [['-accel', 'tcg,tb-size=0'], /'tb-size' expects MiB from 1 to 1024, not '0'/],
    [['-accel', 'tcg,tb-size=1025'], /'tb-size' expects MiB from 1 to 1024/],
    [['-accel', 'tcg,tb-size=4M'], /'tb-size' expects MiB from 1 to 1024/],
    [['-accel', 'tcg,thread=multi'], /Invalid parameter 'thread'/],
    [
      ['-M', 'microvm'],
      /unsupported machine type 'microvm' \(valid: pc, pc-i440fx-7.2, q35, pc-q35-7.2, none\)/,
    ],
    [['-M', 'pc,usb=on'], /there is no USB controller yet/],
    [['-M', 'none', '-m', '64'], /machine 'none' has nothing for -m/],
    [['-M', 'none', '-device', 'VGA'], /machine 'none' has nothing for -device/],
    [['-rtc', 'base=noon'], /invalid datetime format 'noon' \(valid formats/],
    [['-rtc', 'base=2023-02-30'], /invalid datetime format/],
    [['-rtc', 'base=1969-12-31'], /invalid datetime format/],
    [['-rtc', 'clock=vms'], /invalid option value 'vms'/],
    [['-rtc', 'driftfix=fast'], /Invalid driftfix 'fast'/],
    [['-overcommit', 'mem-lock=on'], /'mem-lock=on' is not supported yet/],
    [['-audiodev', 'alsa,id=a'], /unsupported audio driver 'alsa'/],
    [['-name', 'a,debug-threads=off'], /threads always have names/],
    [['-chardev', 'socket,id=c,fd=1,server=on'], /open file above 2, not '1'/],
    [['-chardev', 'socket,id=c,fd=9,path=x,server=on'], /exclude each other/],
    [['-object', 'secret,id=s'], /Provide either 'data' or 'file'/],
    [['-object', 'secret,id=s,file=/nonexistent'], /Unable to read \/nonexistent/],
    [['-object', 'secret,id=s,data=*,format=base64'], /Base64 data is not valid/],
    [['-serial', 'stdoi'], /did you mean 'stdio'/],
    [['-serial', 'file:'], /lacks a name/],
    [Array.from({ length: 5 }, () => ['-serial', 'null']).flat(), /too many serial ports/],
    [['-display', 'gtk'], /Parameter 'type' does not accept value 'gtk' \(valid: none, curses\)/],
    [['-uuid', 'foo'], /failed to parse UUID string/],
    [['-name', 'a,proces=b'], /did you mean 'process'/],
    [['-d', 'in_asm'], /unknown log item 'in_asm'/],
    [['-echr', '99'], /expects a number from 1/],
    [['-chardev', 'stdio'], /Parameter 'id' is missing/],
    [['-chardev', 'stdio,id=a', '-chardev', 'null,id=a'], /Duplicate ID 'a'/],
    [['-chardev', 'null,id=a,path=x'], /'path' belongs to 'file'/],
    [['-mon', 'a,mode=controls'], /unsupported monitor mode 'controls'/],
    [['-append', 'x', '-nographic'], /^-append only allowed with -kernel option$/],
    [['-initrd', 'x', '-nographic'], /^-initrd only allowed with -kernel option$/],
    [['-option-rom', 'bootindex=1'], /Option ROM file is not specified/],
    [['-option-rom', 'x,bootindex=y'], /'bootindex' expects a number/],
    [['-boot', 'x'], /^-boot x: Invalid boot device 'x'/],
    [['-boot', 'cc'], /Boot device 'c' was given twice/],
    [['-boot', 'order=abcd'], /Too many boot devices for PC/],
    [['-boot', 'once=z'], /Invalid boot device 'z'/],
    [['-boot', 'splash-time=65536'], /splash-time is invalid.*between 0 and 65535/],
    [['-boot', 'splash-time=-1'], /splash-time is invalid/],
    [['-boot', 'reboot-timeout=-2'], /reboot-timeout is invalid.*between -1 and 65535/],
    [['-boot', 'reboot-timeout=1s'], /'reboot-timeout' expects a number/],
    [['-boot', 'menu=perhaps'], /menu/],
    [['-M', 'pc,smm=perhaps'], /invalid value of smm/],
    [['-M', 'pc,graphics=1'], /graphics/],
  ]
  for (const [argv, message] of cases) t.regex(refusal(...argv), message, argv.join(' '))
})

test('no command line makes the parser throw anything but its own error', (t) => {
  const names = [...OPTIONS.keys()].flatMap((name) => [`-${name}`, `--${name}`])
  const argument = fc.oneof(
    fc.string(),
    fc.constantFrom(...names),
    fc
      .array(fc.constantFrom(',', '=', 'id', 'size', 'stdio', 'mon:', 'no', '.', 'help', '0x'), {
        maxLength: 6,
      })
      .map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(fc.array(argument, { maxLength: 6 }), (argv) => {
      try {
        parseCommand([...BOOT, ...argv])
      } catch (error) {
        t.true(error instanceof CliError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
})

test('-nographic shares the terminal, as far as the parts are not placed elsewhere', (t) => {
  const plan = (...argv: string[]): string => {
    const { chardevs, serials, monitors } = planChardevs(settings(...argv))
    const show = (id: string | undefined): string => {
      const chardev = id === undefined ? undefined : chardevs.get(id)
      if (chardev === undefined) return '-'
      return chardev.backend + (chardev.mux ? '+mux' : '') + (chardev.signal ? '+signal' : '')
    }
    return `${serials.map(show).join(' ')} | ${monitors.map(({ id }) => show(id)).join(' ')}`
  }
  t.is(plan(), 'stdio+mux | stdio+mux')
  t.is(plan('-monitor', 'none'), 'stdio+signal | ')
  t.is(plan('-serial', 'null'), 'null | stdio+signal')
  t.is(plan('-serial', 'mon:stdio'), 'stdio+mux | stdio+mux')
  t.is(plan('-serial', 'none', '-serial', 'mon:stdio'), '- stdio+mux | stdio+mux')
  t.is(plan('-nodefaults'), ' | ')
  t.is(
    plan('-chardev', 'stdio,id=a,mux=on,signal=off', '-serial', 'chardev:a', '-mon', 'a'),
    'stdio+mux | stdio+mux',
  )
  const headless = parseCommand(['-kernel', 'k', '-display', 'none'])
  t.is(headless.kind, 'run')
  if (headless.kind === 'run') {
    const { chardevs, monitors } = planChardevs(headless.settings)
    t.deepEqual(
      [...chardevs.values()].map((chardev) => chardev.backend),
      ['null', 'null'],
    )
    t.deepEqual(monitors, [])
  }
})

test('a character device has one user unless it is shared', (t) => {
  const plan =
    (...argv: string[]) =>
    () =>
      planChardevs(settings(...argv))
  t.throws(plan('-serial', 'stdio'), { message: /cannot use stdio by multiple/ })
  t.throws(plan('-serial', 'mon:stdio', '-serial', 'stdio'), {
    message: /-serial mon:stdio has it/,
  })
  t.throws(plan('-chardev', 'stdio,id=a'), { message: /cannot use stdio by multiple/ })
  t.throws(plan('-serial', 'chardev:x', '-monitor', 'none'), { message: /chardev 'x' not found/ })
  t.throws(plan('-chardev', 'null,id=a', '-serial', 'chardev:a', '-serial', 'chardev:a'), {
    message: /-serial chardev:a: chardev 'a' is in use/,
  })
})

test('help in an argument lists what can be given there', (t) => {
  const print = (...argv: string[]): string => {
    const command = parseCommand(argv)
    return command.kind === 'print' ? command.text : `ran ${argv.join(' ')}`
  }
  t.regex(print('-machine', 'pc,help'), /^pc-i440fx-7\.2-machine options:\n.* {2}accel=/s)
  t.regex(print('-M', 'pc-i440fx-7.2,accel=tcg,?'), /^pc-i440fx-7\.2-machine options:\n/)
  t.regex(print('-accel', 'tcg,help'), /^tcg-accel options:\n {2}accel=<tcg\|kvm>/)
  t.regex(print('-chardev', 'file,help'), /^chardev options:\n.* {2}path=/s)
  t.regex(print('-drive', 'help'), /^drive options:\n {2}file=<file> .* - the image; CD/)
  t.regex(print('-drive', 'file=a,help'), /^drive options:\n/)
  t.regex(print('-m', 'help'), /^m options:\n.*size=/s)
  t.regex(print('-smp', '2,help'), /^smp options:\n {2}cpus=/)
  t.is(print('-blockdev', 'help'), 'Supported drivers:\n  raw\n  qcow2\n  file')
  t.throws(() => print('-machine', 'pcc,help'), { message: /unsupported machine type 'pcc'/ })
  t.throws(() => print('-chardev', 'fil,help'), { message: /'fil'/ })
  // Only a whole item asks for help: a comma that is written twice belongs to the value.
  t.throws(() => print('-drive', 'file=a,,help,iff=virtio'), { message: /Invalid parameter 'iff'/ })
})
