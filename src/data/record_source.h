// A .rec file as a source of samples.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/record_index.h"
#include "data/source.h"

namespace plsc {

/// The samples of one .rec. The number of classes is what `property` beside it and InsightFace's identity records say
/// (the larger); where there is neither, every record's header is read once, with progress.
/// A record whose label is not below it is an Error when it is read.
std::unique_ptr<DataSource> open_record_source(const std::string& path, Log* log);

/// The first number of the `property` file beside a .rec (InsightFace: "classes,height,width"); 0: there is no file.
int64_t property_classes(const std::string& rec_path);

}  // namespace plsc
