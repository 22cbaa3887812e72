# trellis_extension(NAME CPU sources... CUDA sources... UNFUSED sources... SM90A sources...)
#
# UNFUSED are CUDA sources compiled without fused multiply-add, for the bits of the CPU.
# SM90A are CUDA sources that use what only Hopper has (wgmma): they are built for sm_90a instead of sm_90, and only
# where sm_90 is asked for and nvcc compiles; TK_SM90A is then defined for all CUDA sources. The library still counts as one for sm_90.
#
# Builds one shared library per flavour asked for in TRELLIS_FLAVOURS (default "cpu"; also "cuda12",
# "cuda13") and installs each with a JSON note of how it was built, beside the public C header.
#
# CUDA sources are compiled by plain commands rather than CMake's CUDA language, because the CUDA 12
# compiler may be clang with a toolkit laid out from wheels, which CMake cannot detect. For each CUDA
# flavour the caller (trellis_build) gives, as CMake lists:
#   TRELLIS_CUDA<major>_COMPILER   nvcc or clang++, with leading arguments if it needs any
#   TRELLIS_CUDA<major>_FLAGS      target architectures and toolkit paths
#   TRELLIS_CUDA<major>_LIBRARIES  the CUDA runtime to link
#   TRELLIS_CUDA<major>_ARCHS      what those flags target, as sm_XX and compute_XX
# and where it knows them
#   TRELLIS_CUDA<major>_COMPILER_ID  name and version for the note, without any folder
#   TRELLIS_CUDA<major>_STYLE        "nvcc" (default) or "clang": how flags for the host compiler are spelt
#   TRELLIS_CUDA<major>_FIXED_NAMES  ON if nvcc can be told a source's name; else symbols hold a hash of its folder

set(TRELLIS_NATIVE_DIR "${CMAKE_CURRENT_LIST_DIR}/.." CACHE INTERNAL "")
set(TRELLIS_FLAVOURS "cpu" CACHE STRING "Flavours to build: cpu, cuda12, cuda13")

# Nothing of the build machine may reach the binary: two folders must give equal bits.
set(TRELLIS_PREFIX_MAPS
    "-ffile-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}=."
    "-ffile-prefix-map=${CMAKE_CURRENT_BINARY_DIR}=out"
    "-ffile-prefix-map=${CMAKE_CURRENT_LIST_DIR}/..=native")

# No contraction: a*b+c must give the same bits whatever the processor has.
set(TRELLIS_CPU_OPTIONS -O3 -ffp-contract=off)
set(TRELLIS_CUDA_OPTIONS -std=c++17 -O3 -DNDEBUG)

function(trellis_extension name)
  cmake_parse_arguments(ARG "" "" "CPU;CUDA;UNFUSED;SM90A" ${ARGN})
  set(header "${CMAKE_CURRENT_SOURCE_DIR}/include/trellis_${name}.h")
  file(SHA256 "${header}" abi)
  file(STRINGS "${CMAKE_CURRENT_SOURCE_DIR}/pyproject.toml" version REGEX "^version = ")
  string(REGEX REPLACE "version = \"(.*)\"" "\\1" version "${version}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}" pyproject.toml)
  set(exports "${CMAKE_CURRENT_BINARY_DIR}/exports.map")
  file(CONFIGURE OUTPUT "${exports}" CONTENT "{ global: tk_${name}_*; local: *; };\n" @ONLY)

  set(includes "${CMAKE_CURRENT_SOURCE_DIR}/include" "${CMAKE_CURRENT_SOURCE_DIR}/src" "${TRELLIS_NATIVE_DIR}/include")
  set(defines "TK_VERSION=\"${version}\"" "TK_ABI=\"${abi}\"")

  foreach(flavour IN LISTS TRELLIS_FLAVOURS)
    set(target "trellis_${name}_${flavour}")
    if(flavour STREQUAL "cpu")
      add_library(${target} MODULE ${ARG_CPU})
      set(compiler "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
      set(archs "[\"${CMAKE_SYSTEM_PROCESSOR}\"]")
      set(flags "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_RELEASE} -std=c++17 ${TRELLIS_CPU_OPTIONS}")
    elseif(flavour MATCHES "^cuda(1[0-9])$")
      set(major "${CMAKE_MATCH_1}")
      if(NOT TRELLIS_CUDA${major}_COMPILER)
        message(FATAL_ERROR "flavour ${flavour} needs TRELLIS_CUDA${major}_COMPILER; `nox -s build` finds one and sets it")
      endif()
      set(cuda_defines "${defines}")
      set(hopper "")
      # clang 19 copies a kernel's __grid_constant__ parameter into local memory, where the copy engine may not read a
      # tensor map (seen in its PTX; its build failed on an H100); it takes the kernels of all architectures.
      if(ARG_SM90A AND "sm_90" IN_LIST TRELLIS_CUDA${major}_ARCHS AND NOT TRELLIS_CUDA${major}_STYLE STREQUAL "clang")
        list(APPEND cuda_defines TK_SM90A)
        set(hopper "${ARG_SM90A}")
      endif()
      _trellis_cuda_objects(objects ${name} ${major} "${includes}" "${cuda_defines}" "${ARG_CUDA}" "${ARG_UNFUSED}" "${hopper}")
      add_library(${target} MODULE ${objects})
      set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
      target_link_libraries(${target} PRIVATE ${TRELLIS_CUDA${major}_LIBRARIES} dl rt)
      set(compiler "${TRELLIS_CUDA${major}_COMPILER_ID}")
      if(NOT compiler)
        get_filename_component(compiler "${TRELLIS_CUDA${major}_COMPILER}" NAME)
      endif()
      list(TRANSFORM TRELLIS_CUDA${major}_ARCHS REPLACE "(.+)" "\"\\1\"" OUTPUT_VARIABLE archs)
      list(JOIN archs ", " archs)
      set(archs "[${archs}]")
      set(flags "${TRELLIS_CUDA_OPTIONS}")
    else()
      message(FATAL_ERROR "unknown flavour ${flavour} in TRELLIS_FLAVOURS; expected cpu, cuda12 or cuda13")
    endif()
    set_target_properties(${target} PROPERTIES
      SKIP_BUILD_RPATH ON PREFIX "" SUFFIX ".so" OUTPUT_NAME "_${flavour}" LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/lib"
      CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    target_include_directories(${target} PRIVATE ${includes})
    target_compile_definitions(${target} PRIVATE ${defines})
    target_compile_options(${target} PRIVATE ${TRELLIS_CPU_OPTIONS} -Wall -Wextra ${TRELLIS_PREFIX_MAPS})
    # The C++ runtime goes inside, so that an older libstdc++ in the user's environment cannot matter.
    target_link_options(${target} PRIVATE
      -static-libstdc++ -static-libgcc -Wl,-z,defs -Wl,--gc-sections -Wl,--build-id=none -Wl,--strip-all
      "-Wl,--version-script=${exports}")
    set_property(TARGET ${target} PROPERTY LINK_DEPENDS "${exports}")
    find_package(Threads REQUIRED)
    target_link_libraries(${target} PRIVATE Threads::Threads)

    set(note "${CMAKE_CURRENT_BINARY_DIR}/lib/_${flavour}.json")
    string(REGEX REPLACE "[ ;]+" " " flags "${flags}")
    string(STRIP "${flags}" flags)
    string(CONCAT text "{\"flavour\": \"${flavour}\", \"compiler\": \"${compiler}\", \"flags\": \"${flags}\", "
                       "\"architectures\": ${archs}, \"abi\": \"${abi}\", \"version\": \"${version}\"}\n")
    file(CONFIGURE OUTPUT "${note}" CONTENT "${text}" @ONLY)
    install(FILES "$<TARGET_FILE:${target}>" "${note}" DESTINATION "trellis_${name}/lib")
  endforeach()
  install(FILES "${header}" DESTINATION "trellis_${name}/include")
endfunction()

# Flags that target sm_90 alone, as sm_90a, of those that target several architectures.
function(_trellis_sm90a_flags result flags)
  list(FILTER flags EXCLUDE REGEX "^-gencode=.*code=(sm|compute)_([0-8]|9[1-9]|[1-9][0-9][0-9])")
  list(FILTER flags EXCLUDE REGEX "^-gencode=.*code=compute_")
  list(FILTER flags EXCLUDE REGEX "^--(offload-arch|cuda-gpu-arch)=sm_([0-8]|9[1-9]|[1-9][0-9][0-9])")
  list(FILTER flags EXCLUDE REGEX "^--cuda-include-ptx=sm_")
  list(TRANSFORM flags REPLACE "(compute|sm)_90$" "\\1_90a")
  list(TRANSFORM flags REPLACE "compute_90," "compute_90a,")
  set(${result} "${flags}" PARENT_SCOPE)
endfunction()

function(_trellis_cuda_objects result name major includes defines fused unfused hopper)
  _trellis_sm90a_flags(hopper_flags "${TRELLIS_CUDA${major}_FLAGS}")
  list(TRANSFORM includes PREPEND "-I")
  list(TRANSFORM defines PREPEND "-D")
  set(host -fPIC -fvisibility=hidden ${TRELLIS_PREFIX_MAPS})
  if(TRELLIS_CUDA${major}_STYLE STREQUAL "clang")
    # libdevice's sqrtf asks the compiler whether it shall be exact, and clang 19 answers no (sqrt.approx in its PTX);
    # nvcc's is exact, as the bits of the CPU need it.
    list(APPEND host -D__nv_sqrtf=__nv_fsqrt_rn)
  else()
    list(TRANSFORM host PREPEND "-Xcompiler=")
  endif()
  # Objects of other flags stay where they are, so that going back and forth between rows compiles nothing twice.
  string(SHA256 key "${TRELLIS_CUDA${major}_COMPILER} ${TRELLIS_CUDA${major}_COMPILER_ID} ${TRELLIS_CUDA${major}_FLAGS} ${host}")
  string(SUBSTRING "${key}" 0 12 key)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/cuda${major}/${key}")
  set(objects "")
  set(no_fusion -fmad=false)
  if(TRELLIS_CUDA${major}_STYLE STREQUAL "clang")
    set(no_fusion -ffp-contract=off)
  endif()
  foreach(source IN LISTS fused unfused hopper)
    set(fusion "")
    set(flags "${TRELLIS_CUDA${major}_FLAGS}")
    if(source IN_LIST unfused)
      set(fusion ${no_fusion})
    endif()
    if(source IN_LIST hopper)
      set(flags "${hopper_flags}")
    endif()
    string(REPLACE "/" "_" file "${source}")
    set(object "${folder}/${file}.o")
    set(names "")
    if(TRELLIS_CUDA${major}_FIXED_NAMES AND NOT TRELLIS_CUDA${major}_STYLE STREQUAL "clang" AND source MATCHES "\\.cu$")
      # nvcc derives the names of what lies in unnamed namespaces from the source's path, and marks objects with
      # random numbers; both are set here (trellis_build tried that this compiler takes the options).
      set(path "trellis_${name}/${source}")
      set(names "-frandom-seed=${path}" -Xcudafe=--orig_src_path_name "-Xcudafe=${path}"
                -Xcicc=--orig_src_path_name "-Xcicc=${path}")
    endif()
    add_custom_command(
      OUTPUT "${object}"
      COMMAND ${TRELLIS_CUDA${major}_COMPILER} ${flags} ${host} ${names}
              ${TRELLIS_CUDA_OPTIONS} ${fusion} ${includes} ${defines} -MD -MF "${object}.d" -c "${CMAKE_CURRENT_SOURCE_DIR}/${source}" -o "${object}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${source}" "${CMAKE_CURRENT_SOURCE_DIR}/include/trellis_${name}.h"
      DEPFILE "${object}.d"
      COMMENT "CUDA ${major}: ${source}" VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  file(MAKE_DIRECTORY "${folder}")
  set(${result} "${objects}" PARENT_SCOPE)
endfunction()
