import { refusal, unsupported } from '../refuse.ts'
import type { DomainDefinition, Graphics, Input, Video } from '../generated/model.ts'

/** Screens, graphics cards, sound, keyboards and mice. */
export function normaliseGraphics(def: DomainDefinition): void {
  const { devices } = def
  if (devices === undefined) return
  const graphics = devices.graphics ?? []
  for (const screen of graphics) normaliseScreen(screen)
  if (graphics.length > 0 && (devices.videos ?? []).length === 0) devices.videos = [{}]
  normaliseVideos(devices.videos ?? [])
  for (const input of devices.inputs ?? []) normaliseInput(input)
  addPs2(def)
  if ((devices.audios ?? []).length === 0) devices.audios = [{ id: 1, type: audioFor(graphics) }]
}

function normaliseScreen(screen: Graphics): void {
  if (screen.type === 'vnc' || screen.type === 'spice') {
    normalisePorts(screen)
    normaliseListens(screen)
  } else if (screen.listens !== undefined) {
    throw unsupported(`graphics of type "${screen.type}" are not listened on`, {
      at: screen.listens[0],
    })
  }
}

function normalisePorts(screen: Graphics): void {
  const other = screen.type === 'spice' ? 'tlsPort' : 'websocket'
  if (screen.type === 'vnc') {
    if (screen.autoport === undefined) screen.autoport = (screen.port ?? -1) === -1
    if (screen.autoport) screen.port = -1
    else if (screen.port === -1) delete screen.port
    return
  }
  const automatic = (port: number | undefined) => port === -1
  if (screen.autoport === undefined && automatic(screen.port) && automatic(screen[other] ?? -1)) {
    screen.autoport = true
  }
  if (screen.autoport) {
    delete screen.port
    delete screen.tlsPort
  } else if (screen.port !== undefined || screen.tlsPort !== undefined) {
    screen.autoport = false
  }
}

function normaliseListens(screen: Graphics): void {
  const [first] = screen.listens ?? []
  if (screen.socket !== undefined && screen.socket !== '') {
    screen.listens ??= [{ type: 'socket', socket: screen.socket }]
  } else if (first === undefined) {
    const none = screen.type === 'spice' && screen.autoport === undefined
    const address = screen.listen === undefined ? {} : { address: screen.listen }
    screen.listens = [none ? { type: 'none' } : { type: 'address', ...address }]
  } else if (first.type === 'address') {
    if (
      screen.listen !== undefined &&
      first.address !== undefined &&
      screen.listen !== first.address
    ) {
      throw unsupported(`must be the same as the address of the first <listen>, ${first.address}`, {
        at: screen,
        below: '/@listen',
        value: screen.listen,
      })
    }
    if (screen.listen !== undefined) first.address ??= screen.listen
  }
  const [listen] = screen.listens ?? []
  if (listen?.type === 'address' && listen.address !== undefined) screen.listen = listen.address
  else delete screen.listen
  if (listen?.type === 'socket' && listen.socket !== undefined) screen.socket = listen.socket
  if (listen?.type === 'socket' || listen?.type === 'none') {
    delete screen.port
    delete screen.autoport
    delete screen.tlsPort
  }
}

/** Where sound goes when a document does not say. */
export function audioFor(graphics: readonly Graphics[]): 'none' | 'spice' | 'sdl' {
  const kinds = graphics.map(({ type }) => type)
  if (kinds.includes('spice')) return 'spice'
  return kinds[0] === 'sdl' ? 'sdl' : 'none'
}

/** KiB of video memory of cards that have a choice. */
const videoMemory = 16_384

function normaliseVideos(videos: Video[]): void {
  const primary = videos.findIndex(({ model }) => model?.primary)
  if (primary > 0) videos.unshift(...videos.splice(primary, 1))
  for (const [index, video] of videos.entries()) {
    video.model ??= {}
    const { model } = video
    model.type ??= 'cirrus'
    if (model.type === 'none') {
      if (videos.length > 1) {
        throw unsupported('there can be no other graphics card', {
          at: model,
          below: '/@type',
          value: 'none',
        })
      }
      video.model = { type: 'none' }
      continue
    }
    if (model.type === 'qxl') {
      model.ram ??= 65_536
      model.vram ??= 65_536
      model.vgamem ??= videoMemory
    } else if (model.type === 'virtio' || model.type === 'ramfb') {
      delete model.vram
    } else {
      model.vram ??= videoMemory
    }
    if (model.type !== 'qxl') {
      delete model.ram
      delete model.vgamem
      delete model.vram64
    }
    model.heads ??= 1
    if (index === 0) model.primary = true
    else delete model.primary
    if (index > 0 && !['qxl', 'virtio', 'bochs'].includes(model.type)) {
      throw unsupported('can only be the first graphics card', {
        at: model,
        below: '/@type',
        value: model.type,
      })
    }
  }
}

function normaliseInput(input: Input): void {
  if (input.type === 'evdev') return
  if (input.type === 'passthrough') input.bus ??= 'virtio'
  else if (input.type === 'tablet') input.bus ??= 'usb'
  else input.bus ??= input.address?.type === 'usb' ? 'usb' : 'ps2'
  if (input.bus === 'ps2' && input.type === 'tablet') {
    throw unsupported('there are no tablets at the bus "ps2": use usb or virtio', {
      at: input,
      below: '/@bus',
      value: 'ps2',
    })
  }
  if (input.type === 'passthrough' && input.source?.evdev === undefined) {
    throw refusal('is missing', { at: input, below: '/source/@evdev' })
  }
}

/** Every PC has a keyboard and a mouse. */
function addPs2({ devices }: DomainDefinition): void {
  if (devices === undefined) return
  devices.inputs ??= []
  for (const type of ['mouse', 'keyboard'] as const) {
    const there = devices.inputs.some((input) => input.type === type && input.bus === 'ps2')
    if (!there) devices.inputs.push({ type, bus: 'ps2' })
  }
}
