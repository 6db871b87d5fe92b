"""How are objects stored in files, without pickle?"""

from pushforward.serialization.archive import DOCUMENT as DOCUMENT, is_archive as is_archive
from pushforward.serialization.file import from_bytes as from_bytes, load as load, save as save, to_bytes as to_bytes
from pushforward.serialization.names import RENAMED as RENAMED
from pushforward.serialization.pickling import Picklable as Picklable
