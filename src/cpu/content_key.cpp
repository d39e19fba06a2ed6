#include "cpu/content_key.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "cpu/parallel.h"

namespace sluice::cpu {

Hash128 content_key(const std::vector<const MappedFile*>& files, Workers& workers, const LoadEvents& events) {
  constexpr std::size_t kPiece = std::size_t{4} << 20U;
  struct Piece {
    const MappedFile* file;
    std::span<const std::byte> bytes;
    Hash128 hash;
  };
  std::vector<Piece> pieces;
  for (const MappedFile* file : files)
    for (std::size_t begin = 0; begin < file->bytes().size(); begin += kPiece)
      pieces.push_back(
          {file, file->bytes().subspan(begin, std::min(kPiece, file->bytes().size() - begin)), {}});
  parallel_for(
      workers, pieces.size(),
      [&](std::size_t, std::size_t i) {
        Piece& piece = pieces[i];
        piece.hash = hash128(piece.bytes);
        piece.file->drop(piece.bytes);
      },
      [&](std::size_t done) {
        if (events.progress) events.progress(LoadStage::kHash, done, pieces.size());
      });
  Hasher hasher;
  for (const MappedFile* file : files) hasher.add(file->bytes().size());
  for (const Piece& piece : pieces) {
    hasher.add(piece.hash.low);
    hasher.add(piece.hash.high);
  }
  return hasher.digest();
}

}  // namespace sluice::cpu
