// What owns the bytes that tensors point into.
#pragma once

#include <vector>

#include "base/mapped_file.h"

namespace sluice::model {

class Storage {
 public:
  Storage() = default;
  virtual ~Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // Throws Error if a file has shrunk or become unreadable since it was opened: what was computed from its tensors is
  // worthless then. Cheap enough for every step.
  virtual void check_intact() const = 0;

  // The files, which live as long as this; none if the bytes come from nowhere else.
  virtual std::vector<const MappedFile*> files() const { return {}; }
};

}  // namespace sluice::model
