// A clock that the guest sets: `<clock offset='variable'>`.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { XmlError, domainArgv, parseDomain } from '../src/domain/index.ts'
import { diskXml } from './support/button-guest.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { qemu } from './support/libvirtd.ts'

const emulators = [['qemu-kvm'], ...(existsSync(qemu) ? [['QEMU', qemu]] : [])] as const
const HOUR = 3600

/** A disk whose boot sector has the year of the clock be 2040: register 9 behind ports 0x70 and 0x71. */
function yearDisk(at: string): string {
  const code = [0xb0, 9, 0xe6, 0x70, 0xb0, 0x40, 0xe6, 0x71, 0xf4, 0xeb, 0xfd]
  const disk = Buffer.alloc(1 << 20)
  disk.set(code)
  disk.set([0x55, 0xaa], 510)
  const file = join(at, 'year.img')
  writeFileSync(file, disk)
  return file
}

const adjustmentIn = (xml: string): number => Number(/adjustment='(-?\d+)'/.exec(xml)?.[1])

for (const [name, emulator] of emulators) {
  test.serial(`a clock that the guest has set is told and kept: ${name}`, async (t) => {
    const at = folder(t)
    const { state, client: open } = await startDaemon(t, at)
    const client = await open()
    const told: bigint[] = []
    client.on('DOMAIN_EVENT_CALLBACK_RTC_CHANGE', ({ message }) => told.push(message.offset))
    await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', { event: 2, dom: undefined })
    const xml = domainXml('a', {
      devices: diskXml(yearDisk(at)),
      more: `<clock offset='variable' adjustment='${HOUR}'/>`,
      ...(emulator && { emulator }),
    })
    const before = Date.now()
    const { dom } = await client.call('DOMAIN_CREATE_XML', { xml, flags: 0 })
    await until(() => told.length > 0)
    // The same day of another year, and the hour that it was ahead from the start.
    const there = new Date(before + HOUR * 1000)
    const years = new Date(there).setUTCFullYear(2040) - there.getTime()
    const wanted = Math.round(years / 1000) + HOUR
    t.true(Math.abs(Number(told[0]) - wanted) < 10, `${told[0]}, wanted ${wanted}`)
    const shown = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
    t.regex(shown.xml, /<clock offset='variable' adjustment='\d+' basis='utc'/)
    t.is(adjustmentIn(shown.xml), Number(told[0]))
    // The next daemon knows it as well, and what it began with.
    const kept = JSON.parse(
      readFileSync(join(state, 'run', `${dom.id}`, 'status.json'), 'utf8'),
    ) as { xml: string; clockStart: number }
    t.is(adjustmentIn(kept.xml), Number(told[0]))
    t.is(kept.clockStart, HOUR)
  })
}

test('a clock of its own begins at a time that is ahead of the host by what is said', (t) => {
  const base = (clock: string): string => {
    const xml = `<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os>${clock}</domain>`
    const now = (): number => Date.UTC(2024, 1, 29, 12)
    const { args } = domainArgv(parseDomain(xml), { qmpSocket: '/q', stateDir: '/s', now })
    return args[args.indexOf('-rtc') + 1] ?? ''
  }
  t.is(base("<clock offset='variable' adjustment='-60'/>"), 'base=2024-02-29T11:59:00')
  t.is(
    base("<clock offset='variable' adjustment='reset' basis='utc'/>"),
    'base=2024-02-29T12:00:00',
  )
  const zone = -new Date(Date.UTC(2024, 1, 29, 12)).getTimezoneOffset() * 60_000
  t.is(
    base("<clock offset='variable' adjustment='1' basis='localtime'/>"),
    `base=${new Date(Date.UTC(2024, 1, 29, 12, 0, 1) + zone).toISOString().slice(0, 19)}`,
  )
  t.throws(() => base("<clock offset='variable' adjustment='-99999999999'/>"), {
    instanceOf: XmlError,
    message: /^unsupported: \/domain\/clock\/@adjustment: expected years 1970 to 9999/,
  })
})
