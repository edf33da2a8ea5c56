import { deviceInfo, virtioDriver } from './common.ts'
import { element, live, many, one, optional, required } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const port = s.int(-1, 65_535)

const listen = element(
  'listen',
  'where it is listened on',
  {
    type: required(s.oneOf('address', 'network', 'socket', 'none')),
    address: s.str,
    network: s.str,
    socket: s.str,
    fromConfig: live(s.uint(1)),
  },
  [],
  { typeName: 'GraphicsListen' },
)

const compression = (...values: string[]) => ({ compression: required(s.oneOf(...values)) })

export const graphics: ElementSpec = element(
  'graphics',
  'a screen that people look at',
  {
    type: required(s.oneOf('vnc', 'spice', 'sdl', 'rdp', 'desktop', 'egl-headless', 'dbus')),
    socket: s.str,
    port,
    tlsPort: port,
    autoport: s.yesNo,
    websocket: s.int(-1, 65_535),
    replaceUser: s.yesNo,
    multiUser: s.yesNo,
    listen: s.str,
    keymap: s.str,
    defaultMode: optional(s.oneOf('any', 'secure', 'insecure'), 'any'),
    display: s.str,
    xauth: s.str,
    fullscreen: optional(s.yesNo, false),
    p2p: s.yesNo,
    address: s.str,
    sharePolicy: s.oneOf('allow-exclusive', 'force-shared', 'ignore'),
    powerControl: s.yesNo,
    passwd: { type: s.str, secret: true },
    passwdValidTo: {
      type: s.pattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/, 'a time such as 2030-01-31T12:00:00'),
      secret: true,
    },
    connected: { type: s.oneOf('fail', 'disconnect', 'keep'), secret: true },
  },
  [
    { kind: 'many', key: 'listens', element: listen },
    many(
      element('channel', 'how a channel of SPICE is secured', {
        name: required(
          s.oneOf(
            'main',
            'display',
            'inputs',
            'cursor',
            'playback',
            'record',
            'smartcard',
            'usbredir',
          ),
        ),
        mode: required(s.oneOf('any', 'secure', 'insecure')),
      }),
      'channels',
    ),
    one(
      element(
        'image',
        'compression of pictures',
        compression('auto_glz', 'auto_lz', 'quic', 'glz', 'lz', 'off'),
      ),
    ),
    one(
      element(
        'jpeg',
        'compression of pictures on slow links',
        compression('auto', 'never', 'always'),
      ),
    ),
    one(element('zlib', 'compression on slow links', compression('auto', 'never', 'always'))),
    one(element('playback', 'compression of sound', compression('on', 'off'))),
    one(
      element('streaming', 'of moving pictures', {
        mode: required(s.oneOf('filter', 'all', 'off')),
      }),
    ),
    one(element('mouse', 'who draws the pointer', { mode: required(s.oneOf('server', 'client')) })),
    one(element('clipboard', 'copying and pasting', { copypaste: required(s.yesNo) })),
    one(element('filetransfer', 'dropping of files', { enable: required(s.yesNo) })),
    one(
      element('gl', 'OpenGL on the host', { enable: s.yesNo, rendernode: s.path }, [], {
        typeName: 'GraphicsGl',
      }),
    ),
    one(element('audio', 'sound that goes with it', { id: required(s.uint()) })),
  ],
)

export const video: ElementSpec = element('video', 'a graphics card', {}, [
  one(
    element('driver', 'how the emulator offers it', {
      ...virtioDriver,
      name: s.oneOf('qemu', 'vhostuser'),
      vgaconf: s.oneOf('io', 'on', 'off'),
    }),
  ),
  one(
    element(
      'model',
      'kind of card',
      {
        type: s.oneOf(
          'vga',
          'cirrus',
          'vmvga',
          'xen',
          'vbox',
          'qxl',
          'parallels',
          'virtio',
          'gop',
          'none',
          'bochs',
          'ramfb',
        ),
        ram: s.uint(),
        vram: s.uint(),
        vram64: s.uint(),
        vgamem: s.uint(),
        heads: s.uint(0xffff_ffff, 1),
        blob: s.onOff,
        primary: optional(s.yesNo, false),
      },
      [
        one(
          element('acceleration', 'drawing on the host', {
            accel2d: s.yesNo,
            accel3d: s.yesNo,
            rendernode: s.path,
          }),
        ),
        one(
          element('resolution', 'size of the screen at the start', {
            x: required(s.uint()),
            y: required(s.uint()),
          }),
        ),
      ],
    ),
  ),
  ...deviceInfo,
])

export const input: ElementSpec = element(
  'input',
  'a keyboard, mouse or tablet',
  {
    type: required(s.oneOf('mouse', 'tablet', 'keyboard', 'passthrough', 'evdev')),
    bus: s.oneOf('ps2', 'usb', 'xen', 'parallels', 'virtio', 'none'),
    model: s.oneOf('virtio', 'virtio-transitional', 'virtio-non-transitional'),
  },
  [
    one(
      element('driver', 'how the emulator offers it', virtioDriver, [], {
        typeName: 'VirtioDriver',
      }),
    ),
    one(
      element('source', 'a device of the host', {
        dev: s.path,
        evdev: s.path,
        grab: s.oneOf('all'),
        grabToggle: s.oneOf(
          'ctrl-ctrl',
          'alt-alt',
          'shift-shift',
          'meta-meta',
          'scrolllock',
          'ctrl-scrolllock',
        ),
        repeat: s.onOff,
      }),
    ),
    ...deviceInfo,
  ],
)

const audioReference = element('audio', 'where its sound goes', { id: required(s.uint()) }, [], {
  typeName: 'AudioReference',
})

export const sound: ElementSpec = element(
  'sound',
  'a sound card',
  {
    model: required(s.oneOf('sb16', 'es1370', 'pcspk', 'ac97', 'ich6', 'ich9', 'usb', 'ich7')),
    multichannel: s.yesNo,
  },
  [
    many(
      element('codec', 'a part of a card of High Definition Audio', {
        type: required(s.oneOf('duplex', 'micro', 'output')),
      }),
      'codecs',
    ),
    one(audioReference),
    ...deviceInfo,
  ],
)

const direction = (name: string, doc: string) =>
  element(
    name,
    doc,
    {
      mixingEngine: s.yesNo,
      fixedSettings: s.yesNo,
      voices: s.uint(),
      bufferLength: s.uint(),
      dev: s.str,
      bufferCount: s.uint(),
      tryPoll: s.yesNo,
      name: s.str,
      streamName: s.str,
      latency: s.uint(),
    },
    [
      one(
        element(
          'settings',
          'what its samples are',
          {
            frequency: s.uint(),
            channels: s.uint(),
            format: s.oneOf('s8', 'u8', 's16', 'u16', 's32', 'u32', 'f32'),
          },
          [],
          { typeName: 'AudioSettings' },
        ),
      ),
    ],
    { typeName: 'AudioDirection' },
  )

export const audio: ElementSpec = element(
  'audio',
  'where the sound of cards goes',
  {
    id: required(s.uint(0xffff_ffff, 1)),
    type: required(
      s.oneOf(
        'none',
        'alsa',
        'coreaudio',
        'jack',
        'oss',
        'pulseaudio',
        'sdl',
        'spice',
        'file',
        'dbus',
      ),
    ),
    timerPeriod: s.uint(),
    serverName: s.str,
    driver: s.str,
    path: s.str,
    tryMMap: s.yesNo,
    exclusive: s.yesNo,
    dspPolicy: s.int(),
  },
  [one(direction('input', 'what is recorded')), one(direction('output', 'what is played'))],
)
