// npm run test:guests: the tests with whole guests, which take minutes each and whose disks not every machine can make.
import { build } from './build.mjs'
import {
  bootGuest,
  cdGuests,
  debianGuest,
  firmwareGuest,
  i386Guest,
  ipxeGuest,
  ovmfGuest,
} from './guests.mjs'
import { bin, root } from './lib/paths.mjs'
import { must, script } from './lib/run.mjs'
import { join } from 'node:path'

await script(async () => {
  await build()
  await firmwareGuest()
  await ipxeGuest()
  await ovmfGuest()
  await bootGuest()
  await debianGuest()
  await debianGuest('i386')
  await i386Guest()
  await cdGuests()
  process.env['GUESTS'] = '1'
  await must(bin('ava'), ['test/guests/*.test.ts'], { cwd: join(root, 'e2e') })
})
