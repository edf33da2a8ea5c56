import test from 'ava'
import * as fc from 'fast-check'
import {
  array,
  charArray,
  chars,
  double,
  flag,
  hyper,
  int,
  opaque,
  optional,
  string,
  struct,
  uhyper,
  uint,
  uuid,
} from '../src/rpc/codec.ts'
import type { Codec } from '../src/rpc/codec.ts'
import { RpcError, VirtError } from '../src/rpc/errors.ts'
import { decode, decodeError, encode, encodeError } from '../src/rpc/message.ts'
import { EVENT_MESSAGES, PROCEDURES, QEMU } from '../src/rpc/procedures/index.ts'
import { typedParam } from '../src/rpc/typed-param.ts'
import { XdrWriter } from '../src/rpc/xdr.ts'

const text = fc.string({ unit: 'grapheme' }).filter((value) => !value.includes('\0'))
const i32 = fc.integer({ min: -0x80000000, max: 0x7fffffff })
const u32 = fc.integer({ min: 0, max: 0xffffffff })
const i64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n })
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

const record = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record<T>(fields, { noNullPrototype: true })

function roundTrip<T>(codec: Codec<T>, values: fc.Arbitrary<T>) {
  return fc.property(values, (value) => {
    const bytes = encode(codec, value)
    if (bytes.length % 4 !== 0) return false
    const back = decode(codec, bytes)
    return fc.stringify(back) === fc.stringify(value)
  })
}

test('what is written is read again', (t) => {
  const pair = struct({ a: int, b: optional(string) })
  const properties = [
    roundTrip(int, i32),
    roundTrip(uint, u32),
    roundTrip(hyper, i64),
    roundTrip(uhyper, u64),
    roundTrip(double, fc.double()),
    roundTrip(flag, fc.boolean()),
    roundTrip(string, text),
    roundTrip(uuid, fc.uuid()),
    roundTrip(array(pair), fc.array(record({ a: i32, b: fc.option(text, { nil: undefined }) }))),
    roundTrip(chars(4096), text),
    roundTrip(
      charArray(512),
      text.filter((value) => Buffer.byteLength(value) < 512),
    ),
    roundTrip(
      typedParam,
      fc.oneof(
        record({ field: text, type: fc.constant('int' as const), value: i32 }),
        record({ field: text, type: fc.constant('ullong' as const), value: u64 }),
        record({ field: text, type: fc.constant('bool' as const), value: fc.boolean() }),
        record({ field: text, type: fc.constant('string' as const), value: text }),
      ),
    ),
  ]
  for (const property of properties) fc.assert(property as fc.IProperty<unknown>)
  t.pass()
})

test('layouts are those of XDR and of libvirt', (t) => {
  t.is(encode(string, 'abcde').toString('hex'), '000000056162636465000000')
  t.is(encode(opaque(8), Buffer.from([1])).toString('hex'), '0000000101000000')
  t.is(encode(optional(int), undefined).toString('hex'), '00000000')
  t.is(encode(optional(int), -2).toString('hex'), '00000001fffffffe')
  t.is(
    encode(uuid, '00112233-4455-6677-8899-aabbccddeeff').toString('hex'),
    '00112233445566778899aabbccddeeff',
  )
  // Characters are ints, and the reply to NODE_GET_INFO with its header has 188 bytes.
  t.is(encode(chars(10), 'a').toString('hex'), '000000020000006100000000')
  const info = {
    model: 'x86_64',
    memory: 1n,
    cpus: 1,
    mhz: 1,
    nodes: 1,
    sockets: 1,
    cores: 1,
    threads: 1,
  }
  t.is(28 + encode(PROCEDURES.NODE_GET_INFO.result, info).length, 188)
  t.is(
    encode(typedParam, { field: 'a', type: 'ullong', value: 1n }).toString('hex'),
    '0000000161000000000000040000000000000001',
  )
})

test('no procedure shares its number with another', (t) => {
  const numbers = Object.values(PROCEDURES).map(({ number }) => number)
  const events = Object.values(EVENT_MESSAGES).map(({ number }) => number)
  const all = [...numbers, ...events]
  t.is(new Set(all).size, all.length)
})

test('random bytes are refused with an error of the protocol, whichever procedure they are for', (t) => {
  const codecs = [...Object.values(PROCEDURES), ...Object.values(QEMU)].flatMap(
    ({ args, result }) => [args, result] as Codec<unknown>[],
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const codec of codecs) {
        try {
          decode(codec, Buffer.from(bytes))
        } catch (error) {
          if (!(error instanceof RpcError)) throw error
        }
      }
    }),
    { numRuns: 500 },
  )
  t.pass()
})

test('lengths are compared with what is there before anything is made of them', (t) => {
  const huge = Buffer.from('ffffffff', 'hex')
  const started = performance.now()
  const before = process.memoryUsage().rss
  for (const codec of [string, array(int, 0xffffffff), opaque(0xffffffff), chars(0xffffffff)]) {
    const error = t.throws(() => decode(codec as Codec<unknown>, huge), { instanceOf: RpcError })
    t.true(['E_TRUNCATED', 'E_LIMIT'].includes(error.code))
  }
  t.true(performance.now() - started < 1000)
  t.true(process.memoryUsage().rss - before < 64 << 20)
})

test('each way to break a value has its code', (t) => {
  const code = (codec: Codec<unknown>, hex: string) =>
    t.throws(() => decode(codec, Buffer.from(hex, 'hex')), { instanceOf: RpcError }).code
  t.is(code(int, '0000'), 'E_TRUNCATED')
  t.is(code(int, '0000000000'), 'E_TRAILING')
  t.is(code(string, '0000000261006100'), 'E_VALUE', 'a zero byte in a string')
  t.is(code(string, '000000056162'), 'E_TRUNCATED')
  t.is(code(string, '0000000161'), 'E_TRUNCATED', 'padding that is not there')
  t.is(code(string, '00400001'), 'E_LIMIT')
  t.is(code(array(int, 2), '00000003' + '00000000'.repeat(3)), 'E_LIMIT')
  t.is(code(typedParam, '000000000000000800000000'), 'E_VALUE')
})

test('what is optional is there with everything but 0 in front, as libvirt has it', (t) => {
  // go-libvirt writes 2^24.
  t.is(decode(optional(int), Buffer.from('0100000000000005', 'hex')), 5)
  t.is(decode(optional(int), Buffer.from('00000000', 'hex')), undefined)
})

test('values that do not fit their type are not written', (t) => {
  const code = <T>(codec: Codec<T>, value: T) =>
    t.throws(() => encode(codec, value), { instanceOf: RpcError }).code
  t.is(code(int, 2 ** 31), 'E_VALUE')
  t.is(code(uint, -1), 'E_VALUE')
  t.is(code(uint, 1.5), 'E_VALUE')
  t.is(code(hyper, 1n << 63n), 'E_VALUE')
  t.is(code(uhyper, -1n), 'E_VALUE')
  t.is(code(uuid, 'no uuid'), 'E_VALUE')
  t.is(code(string, 'a\0b'), 'E_VALUE')
  t.is(code(charArray(4), 'four'), 'E_LIMIT')
  const writer = new XdrWriter(8)
  writer.int(1)
  writer.int(2)
  t.is(t.throws(() => writer.int(3), { instanceOf: RpcError }).code, 'E_LIMIT')
})

test('errors keep their code and message', (t) => {
  const error = decodeError(encodeError(new VirtError(42, "no domain 'ä'", { domain: 10 })))
  t.is(error.code, 42)
  t.is(error.domain, 10)
  t.is(error.message, "no domain 'ä'")
})
