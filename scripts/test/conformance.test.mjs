// The conformance table says what failed and what did not run.
import test from 'ava'
import { conformanceTable } from '../lib/conformance-table.mjs'

test('a row per test, a column per engine', (t) => {
  const tap = [
    'TAP version 13',
    'ok 1 - conformance › exits › soft: exits: HLT',
    'not ok 2 - conformance › exits › host: exits: HLT',
    'ok 3 - modes › soft: modes: a loop: in 16-bit code',
    'ok 4 - soft: smp: four # SKIP one host CPU',
    '# a comment',
    'ok 5 - soft: smp: two',
    'ok 6 - host: smp: two',
    '#   not compared: this KVM emulates a CPU',
    'ok 7 - host: smp: four',
  ].join('\n')
  t.is(
    conformanceTable(tap),
    [
      '| subject | what | soft | host |',
      '|---|---|---|---|',
      '| exits | HLT | yes | NO |',
      '| modes | a loop: in 16-bit code | yes |  |',
      '| smp | four | skipped | yes |',
      '| smp | two | yes | not compared |',
      '',
      'soft: 3 of 4 passed, host: 1 of 4 passed',
      '',
    ].join('\n'),
  )
})
