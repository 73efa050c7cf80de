"""The games of recipe wesnoth, written by their layouts."""

import struct

import numpy as np

SKY_CHARACTERS = "".join(map(chr, range(33, 127)))
DRASCULA_TABLES = ("", "D", "B", "BJ", "E", "I", "L", "P", "T", "VB")


def catalogue(messages):
    """A `.mo`: message -> translation."""
    pairs = [(b"", b"Content-Type: text/plain; charset=UTF-8\n")]
    pairs += sorted((key.encode(), value.encode()) for key, value in messages.items())
    start = 28 + 16 * len(pairs)
    tables, strings = [b"", b""], b""
    for side in (0, 1):
        for pair in pairs:
            tables[side] += struct.pack("<II", len(pair[side]), start + len(strings))
            strings += pair[side] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + b"".join(tables) + strings


def pcm(seconds, rate_hz=11025):
    """A tone as unsigned samples of 8 bits."""
    wave = np.sin(np.arange(round(seconds * rate_hz)) * 0.3)
    return (128 + 50 * wave).astype(np.uint8).tobytes()


def pack_rnc(data, copies=()):
    """Pack by ProPack's method 1, in parts of 20,000 bytes.

    `copies` are (place, distance, length): what is at that place is copied from before it.
    """
    writer = _Writer()
    writer.bits(0, 2)
    plan = _steps(data, sorted(copies))
    parts = [plan[at : at + 100] for at in range(0, len(plan), 100)] or [[]]
    for part in parts:
        used = [
            {_class(len(literal)) for literal, _ in part},
            {_class(copy[0] - 1) for _, copy in part[:-1] if copy},
            {_class(copy[1] - 2) for _, copy in part[:-1] if copy},
        ]
        codes = [writer.table(each) for each in used]
        writer.bits(len(part), 16)
        for number, (literal, copy) in enumerate(part):
            writer.number(len(literal), codes[0])
            if literal:
                writer.bytes(literal)
            if number < len(part) - 1:
                writer.number(copy[0] - 1, codes[1])
                writer.number(copy[1] - 2, codes[2])
    packed = writer.done()
    head = struct.pack(">IIHHBB", len(data), len(packed), _crc(data), _crc(packed), 0, len(parts))
    return b"RNC\x01" + head + packed


def _steps(data, copies):
    """Bytes as they are and the copy after them; the last step of a part has no copy."""
    steps, at = [], 0
    for place, distance, length in copies:
        steps.append((data[at:place], (distance, length)))
        at = place + length
        if len(steps) % 100 == 99:
            steps.append((b"", None))
    steps.append((data[at:], None))
    return steps


def _class(number):
    return number.bit_length()


class _Writer:
    """Bits of words, least significant first, with bytes between: where a reader looks for them."""

    def __init__(self):
        self.out, self.held, self.count = bytearray(2), 0, 0
        self.word = 0  # where the bits that are held go

    def bits(self, value, count):
        for place in range(count):
            self.held |= (value >> place & 1) << self.count
            self.count += 1
            if self.count == 16:
                self._flush()
                self.word = len(self.out)
                self.out += bytes(2)

    def _flush(self):
        self.out[self.word : self.word + 2] = self.held.to_bytes(2, "little")
        self.held = self.count = 0

    def table(self, symbols):
        """Codes of four bits for all."""
        if not symbols:
            self.bits(0, 5)
            return {}
        self.bits(max(symbols) + 1, 5)
        codes = {}
        for number in range(max(symbols) + 1):
            self.bits(5 if number in symbols else 0, 4)
            if number in symbols:
                codes[number] = len(codes)
        return codes

    def number(self, value, codes):
        group = _class(value)
        for place in reversed(range(5)):
            self.bits(codes[group] >> place & 1, 1)
        if group >= 2:
            self.bits(value - (1 << (group - 1)), group - 1)

    def bytes(self, data):
        # A word of which no bit is read comes after the bytes.
        if self.count:
            self.out += data
        else:
            self.out[self.word : self.word] = data
            self.word += len(data)

    def done(self):
        self._flush()
        return bytes(self.out)


def _crc(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def sky_tree():
    """Codes of characters as in ScummVM: nodes of left, right, character; and character -> bits."""
    others = [0, *(ord(each) for each in SKY_CHARACTERS if each not in "etaoinshr"), 127]
    nodes = []
    codes = {}

    def leaf(value, code):
        nodes.append((0, 0, value))
        codes[value] = code

    def half(values, code):
        if len(values) == 1:
            return leaf(values[0], code)
        at = len(nodes)
        nodes.append(None)
        middle = len(values) // 2
        left = len(nodes)
        half(values[:middle], code + "0")
        right = len(nodes)
        half(values[middle:], code + "1")
        nodes[at] = (left, right, 0)
        return None

    # How the game's own begins: its blank is at 000, and the right half is node 20.
    nodes += [(1, 20, 0), (2, 7, 0), (3, 4, 0)]
    leaf(32, "000")
    half(list(b"et"), "001")
    half(list(b"aoinshr"), "01")
    assert len(nodes) == 20
    half(others, "1")
    return bytes(value for node in nodes for value in node), codes


def sky_texts(texts, codes):
    """A section's file: number -> text."""
    count = -(-(max(texts) + 1) // 32) * 32
    stream, sizes = "", []
    for number in range(count):
        text = "".join(codes[each] for each in [*texts.get(number, "").encode("latin-1"), 0])
        size = -(-len(text) // 2)
        if size > 127:
            size = -(-size // 8) * 8
        stream += text.ljust(2 * size, "0")
        sizes.append(size)
    blocks = [sum(sizes[at : at + 32]) for at in range(0, count, 32)]
    stream = stream.ljust(-(-len(stream) // 8) * 8, "0")
    steps = bytes(size if size < 128 else 0x80 | size >> 3 for size in sizes)
    head = 4 + 2 * len(blocks)
    data = struct.pack(f"<HH{len(blocks)}H", head, head + len(steps), *blocks) + steps
    return data + int(stream, 2).to_bytes(len(stream) // 8, "big")


def write_sky(directory, lines, packed=True):
    """The game: (section, number) -> English and German as the game codes it, seconds of speech.

    Returns the samples of each, which are packed by ProPack or as they are.
    """
    directory.mkdir(parents=True, exist_ok=True)
    first = (0, 600, 1100, 2430, 3380, 4530, 5080, 5230)
    codes = sky_tree()[1]
    files, samples = {}, {}
    for section in {section for section, _ in lines}:
        own = {number: line for (of, number), line in lines.items() if of == section}
        for place in (0, 1):
            texts = {number: line[place] for number, line in own.items()}
            files[60600 + 8 * place + section] = (sky_texts(texts, codes), 1 << 1)
        for number, line in own.items():
            speech, copies = bytearray(pcm(line[2])), []
            for at in range(100, len(speech) - 100, 100):
                speech[at : at + 30] = speech[at - 40 : at - 10]
                copies.append((at, 40, 30))
            samples[section, number] = bytes(speech)
            content = bytes(22) + speech
            if packed:
                content = b"\x80\x00" + bytes(20) + pack_rnc(bytes(speech), copies)
            files[50000 + first[section] + number] = (content, 0)
    index, disk = struct.pack("<I", len(files)), b""
    for number, (data, flags) in files.items():
        if number % 2:
            disk += bytes(-len(disk) % 16)
            place = len(disk) >> 4 | 0x800000
        else:
            place = len(disk)
        disk += data
        size = len(data) | flags << 22
        index += number.to_bytes(2, "little") + place.to_bytes(3, "little")
        index += size.to_bytes(3, "little")
    (directory / "sky.dnr").write_bytes(index)
    (directory / "sky.dsk").write_bytes(disk)
    return samples


def write_drascula(directory, lines, seconds=1.0):
    """The game: name of a speech file -> English and German, in CP850."""
    directory.mkdir(parents=True, exist_ok=True)
    tables = {prefix: {} for prefix in DRASCULA_TABLES}
    for name, texts in lines.items():
        prefix = name.rstrip("0123456789")
        tables[prefix][int(name.removeprefix(prefix))] = texts
        (directory / f"{name}.ALS").write_bytes(pcm(seconds))
    tables[""].setdefault(1, ("THAT'S THE SECOND BIGGEST DOOR", "Ja"))
    data = b"DRASCULA" + bytes(8)
    for own in tables.values():
        count = max(own, default=0) + 1
        data += struct.pack(">H", count)
        for language in range(6):
            entries = b""
            for number in range(count):
                texts = own.get(number, ("", ""))
                text = {0: texts[0], 2: texts[1]}.get(language, "?" if number else "")
                entry = text.encode("cp850") + bytes(2)
                entries += struct.pack(">H", 2 + len(entry)) + entry
            data += struct.pack(">HH", len(entries), 0) + entries
    (directory / "drascula.dat").write_bytes(data)


def write_games(tree, messages, sky, drascula):
    """A tree as the packages unpack to: campaign -> messages, and the lines of the games."""
    catalogues = tree / "usr/share/games/wesnoth/1.16/locale/de/LC_MESSAGES"
    catalogues.mkdir(parents=True)
    for campaign, own in {"help": {}, "httt": {}, **messages}.items():
        (catalogues / f"wesnoth-{campaign}.mo").write_bytes(catalogue(own))
    write_sky(tree / "usr/share/scummvm/beneath-a-steel-sky", sky)
    write_drascula(tree / "usr/share/scummvm/drascula/en", drascula)
    (tree / "usr/games").mkdir()
    (tree / "usr/games/scummvm").write_bytes(b"\x7fELF" + bytes(40) + sky_tree()[0] + bytes(9))
