// A .rec file as a source of samples.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/record_index.h"
#include "data/source.h"

namespace plsc {

/// The samples of one .rec. The number of classes is what `property` and InsightFace's identity records say
/// (the larger); where there is neither, every record's header is read once, with progress.
/// A record whose label is not below it is an Error when it is read.
std::unique_ptr<DataSource> open_record_source(const std::string& path, Log* log);

/// The first number of train.property beside a train.rec, else of the folder's `property` ("classes,height,width", as
/// InsightFace has it for the one .rec of the folder); 0: there is no file.
int64_t property_classes(const std::string& rec_path);

}  // namespace plsc
